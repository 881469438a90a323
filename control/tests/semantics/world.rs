//! A small cluster, written in a few words, and questions to the gateway on its node `here`.

use control::config::Config;
use control::explain::{Explanation, Flow, Verdict, explain_text};

/// The gateway's configuration unless a test says otherwise.
const CONFIG: &str = "nodeName: here, nodeIPs: [192.0.2.10, 'fd00:2::10'], \
     nodeLabels: {topology.kubernetes.io/zone: near}, \
     clusterCIDR: '10.0.0.0/16, fd00:10::/56', serviceCIDRs: [172.30.0.0/16, 'fd00:30::/112']";

/// Clients by name, one of each family.
const CLIENTS: [(&str, &str, &str); 3] = [
    ("pod", "10.0.9.9", "fd00:10::9:9"),
    ("node", "192.0.2.10", "fd00:2::10"),
    ("outside", "203.0.113.7", "2001:db8::7"),
];

/// Objects and configuration.
#[derive(Clone)]
pub struct World {
    config: String,
    objects: String,
}

/// A world without objects.
pub fn world() -> World {
    World { config: CONFIG.into(), objects: String::new() }
}

/// The usual port of a Service, to be put into its spec.
pub const PORT: &str = "ports: [{name: http, port: 80}]";

/// The same with a node port.
pub const NODE_PORT: &str = "type: NodePort, ports: [{name: http, port: 80, nodePort: 30080}]";

/// An endpoint on each of two nodes.
pub const TWO: &str = "10.0.1.2@here 10.0.1.3@there";

impl World {
    /// The `services` section of the configuration instead of the usual one.
    pub fn config(mut self, services: &str) -> Self {
        self.config = services.into();
        self
    }

    /// A Service in the default namespace: fields of its spec.
    pub fn service(self, name: &str, spec: &str) -> Self {
        self.service_with(&format!("name: {name}"), spec, "")
    }

    /// A Service whose load balancer has these addresses.
    pub fn balanced(self, name: &str, spec: &str, ingress: &str) -> Self {
        let status = format!("loadBalancer: {{ingress: [{ingress}]}}");
        self.service_with(&format!("name: {name}"), spec, &status)
    }

    /// A Service: fields of metadata, spec and status.
    pub fn service_with(self, metadata: &str, spec: &str, status: &str) -> Self {
        self.object(&format!(
            "{{apiVersion: v1, kind: Service, metadata: {{{metadata}}}, spec: {{{spec}}}, status: {{{status}}}}}"
        ))
    }

    /// A slice of a Service, with port `http` at 8080. Endpoints are `address[@node][!conditions][/zone,..][#node,..]`,
    /// where conditions are the first letters of those that hold, `rs` if left out.
    pub fn slice(self, service: &str, endpoints: &str) -> Self {
        self.slice_at(service, "{name: http, port: 8080}", endpoints)
    }

    /// The same with other ports.
    pub fn slice_at(self, service: &str, ports: &str, endpoints: &str) -> Self {
        let endpoints: Vec<String> = endpoints.split_whitespace().map(endpoint).collect();
        let endpoints = endpoints.join(", ");
        // The family of a slice is that of its first address.
        let v6 = endpoints.split("addresses: [").nth(1).is_some_and(|rest| {
            rest.split(']').next().is_some_and(|address| address.contains(':'))
        });
        let family = if v6 { "IPv6" } else { "IPv4" };
        let fields = format!("addressType: {family}, ports: [{ports}], endpoints: [{endpoints}]");
        self.slice_with(&format!("kubernetes.io/service-name: {service}"), &fields)
    }

    /// A slice: its labels and its fields.
    pub fn slice_with(self, labels: &str, fields: &str) -> Self {
        let name = format!("slice-{}", self.objects.lines().count());
        self.object(&format!(
            "{{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {{name: {name}, labels: {{{labels}}}}}, {fields}}}"
        ))
    }

    /// Any document.
    pub fn object(mut self, yaml: &str) -> Self {
        self.objects += yaml;
        self.objects += "\n---\n";
        self
    }

    /// Asks about flows: `[protocol ]client -> address:port`, TCP if none is named, the client by name or address.
    /// Verdicts are `dnat` with the backends, those with a star seeing the gateway's address instead of the client's,
    /// or the verdict and its reason.
    #[track_caller]
    pub fn check(&self, rows: &[(&str, &str)]) {
        let flows: Vec<&str> = rows.iter().map(|(flow, _)| *flow).collect();
        for (told, (flow, expected)) in self.ask(&flows).iter().zip(rows) {
            assert_eq!(short(told), *expected, "{flow}\n{:#?}\n{}", told.steps, self.objects);
        }
    }

    /// The whole answers.
    #[track_caller]
    pub fn ask(&self, flows: &[&str]) -> Vec<Explanation> {
        let config = format!("services: {{{}}}", self.config);
        let config = Config::parse(&config, "test").expect("a valid configuration");
        let flows: Vec<Flow> =
            flows.iter().map(|flow| written_out(flow).parse().expect("a flow")).collect();
        let (told, _) = explain_text(&config, "test", &self.objects, &flows);
        for told in &told {
            let is_member =
                told.backends.iter().flatten().any(|b| Some(&b.address) == told.chosen.as_ref());
            assert_eq!(told.verdict == Verdict::Dnat, is_member, "{told:#?}");
            assert_eq!(told.verdict == Verdict::Dnat, told.reason.is_none(), "{told:#?}");
        }
        told
    }
}

fn endpoint(text: &str) -> String {
    let (text, nodes) = text.split_once('#').unwrap_or((text, ""));
    let (text, zones) = text.split_once('/').unwrap_or((text, ""));
    let (text, conditions) = text.split_once('!').unwrap_or((text, "rs"));
    let (address, node) = text.split_once('@').unwrap_or((text, ""));
    let hints = |names: &str| -> Vec<String> {
        names.split(',').filter(|n| !n.is_empty()).map(|n| format!("{{name: {n}}}")).collect()
    };
    let [ready, serving, terminating] = ['r', 's', 't'].map(|c| conditions.contains(c));
    let node = if node.is_empty() { String::new() } else { format!("nodeName: {node}, ") };
    format!(
        "{{addresses: ['{address}'], {node}conditions: {{ready: {ready}, serving: {serving}, terminating: {terminating}}}, \
          hints: {{forZones: [{}], forNodes: [{}]}}}}",
        hints(zones).join(", "),
        hints(nodes).join(", "),
    )
}

/// The flow as `explain` takes it: with protocol, and the client's address and port.
fn written_out(flow: &str) -> String {
    let (head, to) = flow.split_once(" -> ").expect("a destination");
    let (protocol, client) = head.split_once(' ').unwrap_or(("tcp", head));
    let v6 = to.starts_with('[');
    let named = CLIENTS.iter().find(|(name, ..)| *name == client);
    let address = named.map_or(client, |(_, four, six)| if v6 { six } else { four });
    match v6 {
        true => format!("{protocol} [{address}]:40000 -> {to}"),
        false => format!("{protocol} {address}:40000 -> {to}"),
    }
}

fn short(told: &Explanation) -> String {
    let backends = told.backends.iter().flatten().map(|backend| {
        format!(" {}{}", backend.address, if backend.masquerade { "*" } else { "" })
    });
    let verdict = told.verdict.name();
    match told.verdict {
        Verdict::Dnat => format!("{verdict}{}", backends.collect::<String>()),
        _ => format!("{verdict} {}", told.reason.as_deref().unwrap_or_default()),
    }
}
