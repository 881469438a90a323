//! Services with ports that no endpoint is ready for: new connections there are refused, which their owners should know.

use std::collections::BTreeMap;

use dataplane::service::{FrontendAt, ServicePort};

use crate::object::ObjectName;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Empty {
    /// The ports in words.
    services: BTreeMap<ObjectName, Vec<String>>,
    changes: u64,
}

impl Empty {
    /// Takes note of the rows that a Service has now.
    pub(crate) fn set(&mut self, service: &ObjectName, rows: &[ServicePort]) {
        let empty = rows.iter().filter(|row| !row.has_endpoints);
        let empty: Vec<String> = empty.map(in_words).collect();
        let former = self.services.get(service).map_or(&[][..], Vec::as_slice);
        if former == empty {
            return;
        }
        self.changes += 1;
        if empty.is_empty() {
            self.services.remove(service);
        } else {
            self.services.insert(service.clone(), empty);
        }
    }

    /// The Services in order of their names, with these ports in words.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&ObjectName, &[String])> {
        self.services.iter().map(|(name, ports)| (name, ports.as_slice()))
    }

    /// How often they have changed so far.
    pub(crate) fn changes(&self) -> u64 {
        self.changes
    }
}

/// `tcp port http over IPv4`.
fn in_words(row: &ServicePort) -> String {
    let port = row.name.split_once(':').map_or(&*row.name, |(_, port)| port);
    let v4 = row.frontends.iter().any(|frontend| match frontend.at {
        FrontendAt::Address(socket) => socket.is_ipv4(),
        FrontendAt::NodePort { v4, .. } => v4,
    });
    format!("{} port {port} over IPv{}", row.protocol.name(), if v4 { 4 } else { 6 })
}
