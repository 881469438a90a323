//! Objects by what only names are asked for by: addresses, and namespaces.
//!
//! Part of the [`crate::state`], which keeps it in step with every change. Of endpoints, only those of headless Services
//! are in here: nobody asks for the names of others, and those are the many.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use crate::object::service::ServiceKind;
use crate::object::{Kind, ObjectKey, ObjectName, Service, Slice};

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    /// Cluster IPs with their Services, and endpoints of headless Services with their slices.
    addresses: BTreeSet<(IpAddr, ObjectKey)>,
    /// How many Services a namespace has.
    namespaces: HashMap<Box<str>, usize>,
}

impl Directory {
    /// Who has an address.
    pub(crate) fn at(&self, address: IpAddr) -> impl Iterator<Item = &ObjectKey> {
        let first = ObjectKey { kind: Kind::Service, name: ObjectName::new("", "") };
        let here = self.addresses.range((address, first)..);
        here.take_while(move |(at, _)| *at == address).map(|(_, key)| key)
    }

    pub(crate) fn has_namespace(&self, namespace: &str) -> bool {
        self.namespaces.contains_key(namespace)
    }

    /// A Service is there, with the slices that are there already.
    pub(crate) fn add_service<'a>(
        &mut self,
        service: &Service,
        slices: impl Iterator<Item = &'a Slice>,
    ) {
        *self.namespaces.entry(service.name.namespace().into()).or_default() += 1;
        self.addresses.extend(cluster_ips(service));
        if service.is_headless() {
            slices.for_each(|slice| self.add_slice(slice));
        }
    }

    /// The opposite of [`Self::add_service`].
    pub(crate) fn remove_service<'a>(
        &mut self,
        service: &Service,
        slices: impl Iterator<Item = &'a Slice>,
    ) {
        let namespace = service.name.namespace();
        if let Some(count) = self.namespaces.get_mut(namespace) {
            *count -= 1;
            if *count == 0 {
                self.namespaces.remove(namespace);
            }
        }
        for at in cluster_ips(service) {
            self.addresses.remove(&at);
        }
        if service.is_headless() {
            slices.for_each(|slice| self.remove_slice(slice));
        }
    }

    /// A headless Service has one more slice.
    pub(crate) fn add_slice(&mut self, slice: &Slice) {
        self.addresses.extend(endpoints(slice));
    }

    /// The opposite of [`Self::add_slice`].
    pub(crate) fn remove_slice(&mut self, slice: &Slice) {
        for at in endpoints(slice) {
            self.addresses.remove(&at);
        }
    }
}

fn cluster_ips(service: &Service) -> impl Iterator<Item = (IpAddr, ObjectKey)> {
    let key = ObjectKey { kind: Kind::Service, name: service.name.clone() };
    let ips = match &service.kind {
        ServiceKind::Addressed(ips) => ips.as_slice(),
        _ => &[],
    };
    ips.iter().map(move |ip| (*ip, key.clone()))
}

fn endpoints(slice: &Slice) -> impl Iterator<Item = (IpAddr, ObjectKey)> {
    let key = ObjectKey { kind: Kind::EndpointSlice, name: slice.name.clone() };
    slice.endpoints.iter().map(move |endpoint| (endpoint.address, key.clone()))
}
