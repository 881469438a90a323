//! A cluster of any size as parsed objects: Services of one port, each with one slice of endpoints.
//!
//! Addresses say what they belong to, so that a packet's way can be checked by its addresses alone.

use std::net::{IpAddr, Ipv4Addr};

use control::object::{Object, ObjectName, Service, Slice};
use control::settings::Settings;
use control::source::manifests::Manifests;
use control::source::{Change, Event};
use dataplane::flow::Protocol;

/// Endpoints of each Service.
pub(super) const ENDPOINTS: usize = 25;
/// Names of a Service's slices end so.
pub(super) const FIRST: &str = "-x7kq2";
pub(super) const SECOND: &str = "-b9wzn";
/// Addresses set aside for each Service's endpoints, past and present.
const ADDRESSES: usize = 32;
/// Every so many Services one is UDP.
const UDP_EVERY: usize = 8;
/// Services of a namespace, and endpoints of a node.
const PER_NAMESPACE: usize = 100;
const PER_NODE: usize = 110;
/// Port of every Service.
pub(super) const PORT: u16 = 80;
/// Port of every endpoint.
pub(super) const TARGET_PORT: u16 = 8080;

/// 172.16.0.0/12.
const VIPS: u32 = 0xac10_0000;
/// 10.0.0.0/8.
const PODS: u32 = 0x0a00_0000;

/// One Service and its slice, written as a controller writes them, but for names and addresses.
const TEMPLATE: &str = "
apiVersion: v1
kind: Service
metadata: {namespace: ns0, name: web0, creationTimestamp: '2026-01-01T00:00:00Z', labels: {app: web0}}
spec:
  type: ClusterIP
  clusterIP: 172.16.0.1
  clusterIPs: [172.16.0.1]
  ipFamilies: [IPv4]
  ports: [{name: http, port: 80, protocol: PROTOCOL, targetPort: 8080}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {namespace: ns0, name: web0-x, labels: {kubernetes.io/service-name: web0}}
addressType: IPv4
ports: [{name: http, port: 8080, protocol: PROTOCOL}]
endpoints:
- {addresses: [10.0.0.1], nodeName: node0, zone: z, conditions: {ready: true, serving: true, terminating: false}}
";

/// Makes the objects of Services by their number.
#[derive(Clone, Debug)]
pub(super) struct Cluster {
    pub(super) services: usize,
    tcp: (Service, Slice),
    udp: (Service, Slice),
}

impl Cluster {
    pub(super) fn new(services: usize) -> Self {
        let template = |protocol| parsed(&TEMPLATE.replace("PROTOCOL", protocol));
        Self { services, tcp: template("TCP"), udp: template("UDP") }
    }

    fn template(&self, service: usize) -> &(Service, Slice) {
        match protocol(service) {
            Protocol::Udp => &self.udp,
            _ => &self.tcp,
        }
    }

    /// A Service.
    pub(super) fn service(&self, service: usize) -> Service {
        let mut object = self.template(service).0.clone();
        object.name = name(service, "");
        object.kind = control::object::service::ServiceKind::Addressed(vec![vip(service).into()]);
        object
    }

    /// The slice of a Service with these endpoints, by number, in place of its usual ones.
    pub(super) fn slice_of(
        &self,
        service: usize,
        suffix: &str,
        endpoints: impl IntoIterator<Item = usize>,
    ) -> Slice {
        let mut slice = self.template(service).1.clone();
        slice.name = name(service, suffix);
        slice.service = Some(name(service, ""));
        let template = slice.endpoints.remove(0);
        slice.endpoints = endpoints
            .into_iter()
            .map(|number| {
                let node = (service * ENDPOINTS + number) / PER_NODE;
                let mut endpoint = template.clone();
                endpoint.address = endpoint_address(service, number);
                endpoint.node = Some(format!("node-{node}.example").into());
                endpoint
            })
            .collect();
        slice
    }

    /// The slice of a Service as it is at first.
    pub(super) fn slice(&self, service: usize) -> Slice {
        self.slice_of(service, FIRST, 0..ENDPOINTS)
    }

    /// Everything, as a source gives it at its start.
    pub(super) fn events(&self) -> [Event; 2] {
        let services = (0..self.services).map(|n| Change::of(Object::Service(self.service(n))));
        let slices = (0..self.services).map(|n| Change::of(Object::Slice(self.slice(n))));
        [services.collect::<Vec<_>>(), slices.collect()].map(|objects| {
            let kind = objects[0].object.key().kind;
            Event::Reset { kind, objects, unreadable: Vec::new() }
        })
    }

    /// Everything as text, in YAML documents.
    pub(super) fn yaml(&self) -> String {
        (0..self.services)
            .map(|service| {
                let name = name(service, "");
                let text = TEMPLATE
                    .replace("ns0", name.namespace())
                    .replace("web0", name.name())
                    .replace("172.16.0.1", &vip(service).to_string())
                    .replace("PROTOCOL", protocol(service).name().to_uppercase().as_str());
                let (head, endpoint) = text.split_once("endpoints:\n").unwrap_or((&text, ""));
                let endpoints: String = (0..ENDPOINTS)
                    .map(|number| {
                        let address = endpoint_address(service, number).to_string();
                        endpoint.replace("10.0.0.1", &address)
                    })
                    .collect();
                format!("---{head}endpoints:\n{endpoints}")
            })
            .collect()
    }
}

fn parsed(text: &str) -> (Service, Slice) {
    let events = Manifests::new("-", &Settings::default()).load_text("-", text);
    let objects = events.into_iter().filter_map(|event| match event {
        Event::Reset { objects, .. } => objects.into_iter().next(),
        _ => None,
    });
    let objects: Vec<Object> = objects.map(|change| change.object).collect();
    match <[Object; 2]>::try_from(objects) {
        Ok([Object::Service(service), Object::Slice(slice)]) => (service, slice),
        other => panic!("the template is a Service and a slice, not {other:?}"),
    }
}

fn name(service: usize, suffix: &str) -> ObjectName {
    let namespace = format!("team-{}", service / PER_NAMESPACE);
    ObjectName::new(&namespace, &format!("web-{service}{suffix}"))
}

/// Transport protocol of a Service.
pub(super) fn protocol(service: usize) -> Protocol {
    if service % UDP_EVERY == UDP_EVERY - 1 { Protocol::Udp } else { Protocol::Tcp }
}

/// Cluster IP of a Service.
pub(super) fn vip(service: usize) -> Ipv4Addr {
    address(VIPS, service)
}

fn endpoint_address(service: usize, number: usize) -> IpAddr {
    assert!(number < ADDRESSES, "each Service has {ADDRESSES} addresses");
    address(PODS, service * ADDRESSES + number).into()
}

/// The Service whose endpoint has this address, if it is one.
pub(super) fn service_of(endpoint: Ipv4Addr) -> Option<usize> {
    let offset = endpoint.to_bits().wrapping_sub(PODS);
    (offset < 1 << 24).then_some(offset as usize / ADDRESSES)
}

fn address(base: u32, offset: usize) -> Ipv4Addr {
    Ipv4Addr::from_bits(base + u32::try_from(offset).expect("few enough"))
}
