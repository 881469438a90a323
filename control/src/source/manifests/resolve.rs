//! All documents together to objects: duplicates settled, defaults filled in, and the endpoints that a cluster's
//! controllers would write.
//!
//! Slices in the files are believed. A Service without any gets its endpoints from an Endpoints object if it has no
//! selector (END-2), else from the Pods it selects (EPS-13).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1 as api;

use super::defaults::Allocator;
use super::document::{Body, Document, Origin};
use crate::object::{
    Endpoints, Kind, Node, Object, ObjectKey, ObjectName, Parsed, Pod, Problem, Reason, Service,
    ServiceCidr, Slice, pod,
};

/// The ServiceCIDR that API servers make of their own configuration.
const DEFAULT_RANGES: &str = "kubernetes";

/// What a set of files says.
#[derive(Debug)]
pub(super) struct Resolved {
    pub(super) services: Vec<Object>,
    pub(super) slices: Vec<Object>,
    pub(super) nodes: Vec<Object>,
    pub(super) service_cidrs: Vec<Object>,
    pub(super) problems: Vec<Problem>,
}

/// Parsed objects of one kind with their origins.
type Of<T> = BTreeMap<ObjectName, (T, Arc<Origin>)>;

/// Later documents win over earlier ones of the same name.
pub(super) fn resolve<'a>(
    documents: impl Iterator<Item = &'a Document>,
    allocator: &mut Allocator,
) -> Resolved {
    let mut problems = Vec::new();
    let chosen = settle(documents, &mut problems);
    let service_cidrs = service_cidrs(&chosen, &mut problems);
    allocator.set_objects_ranges(
        service_cidrs.iter().flat_map(|object| object.ranges.iter().copied()).collect(),
    );
    let mut specs: BTreeMap<ObjectName, api::Service> = BTreeMap::new();
    for document in chosen.values() {
        if let Body::Service(service) = &document.body {
            specs.insert(document.key.name.clone(), (**service).clone());
        }
    }
    for (name, field, reason) in allocator.complete(&mut specs) {
        let key = ObjectKey { kind: Kind::Service, name };
        if let Some(document) = chosen.get(&key) {
            problems.push(document.origin.locate(Problem::of(key, field, reason)));
        }
    }

    let mut services: Of<Service> = Of::new();
    let mut slices: Vec<Slice> = Vec::new();
    let mut endpoints: Of<Endpoints> = Of::new();
    let mut pods: Vec<Pod> = Vec::new();
    let mut nodes: Vec<Object> = Vec::new();
    for Document { key, origin, body } in chosen.values().copied() {
        match body {
            Body::Service(service) => {
                let service = specs.get(&key.name).unwrap_or(service);
                let parsed = keep(Service::parse(service), origin, &mut problems);
                services
                    .extend(parsed.map(|service| (key.name.clone(), (service, origin.clone()))));
            }
            Body::Slice(slice) => slices.extend(keep(Slice::parse(slice), origin, &mut problems)),
            Body::Endpoints(body) => {
                let parsed = keep(Endpoints::parse(body), origin, &mut problems);
                endpoints.extend(parsed.map(|parsed| (key.name.clone(), (parsed, origin.clone()))));
            }
            Body::Pod(pod) => pods.extend(keep(Pod::parse(pod), origin, &mut problems)),
            Body::Node(node) => {
                nodes.extend(keep(Node::parse(node), origin, &mut problems).map(Object::Node));
            }
            Body::ServiceCidr(_) => {}
        }
    }

    let written: BTreeSet<ObjectName> =
        slices.iter().filter_map(|slice| slice.service.clone()).collect();
    for (name, (service, _)) in &services {
        let spec = specs.get(name).and_then(|service| service.spec.as_ref());
        if let (Some(spec), false, false) =
            (spec, service.selector.is_empty(), written.contains(name))
        {
            slices.append(&mut pod::slices(service, spec, pods.iter()));
        }
    }
    for (name, (endpoints, origin)) in endpoints {
        // Beside slices it says what they say: a cluster's export holds both.
        if endpoints.skip || written.contains(&name) {
            continue;
        }
        match unmirrored(services.get(&name)) {
            None => slices.extend(endpoints.slices),
            Some(why) => {
                let endpoints = ObjectKey { kind: Kind::Endpoints, name };
                let problem = Problem::of(endpoints, "", Reason::Note(why.into()));
                problems.push(origin.locate(problem));
            }
        }
    }
    Resolved {
        services: services.into_values().map(|(service, _)| Object::Service(service)).collect(),
        slices: slices.into_iter().map(Object::Slice).collect(),
        nodes,
        service_cidrs: service_cidrs.into_iter().map(Object::ServiceCidr).collect(),
        problems,
    }
}

/// In order of their names, but the one that API servers make by themselves first: it says which family is the first.
fn service_cidrs(
    chosen: &BTreeMap<&ObjectKey, &Document>,
    problems: &mut Vec<Problem>,
) -> Vec<ServiceCidr> {
    let mut all = Vec::new();
    for Document { origin, body, .. } in chosen.values().copied() {
        if let Body::ServiceCidr(ranges) = body {
            all.extend(keep(ServiceCidr::parse(ranges), origin, problems));
        }
    }
    all.sort_by_key(|ranges| ranges.name.name() != DEFAULT_RANGES);
    all
}

fn settle<'a>(
    documents: impl Iterator<Item = &'a Document>,
    problems: &mut Vec<Problem>,
) -> BTreeMap<&'a ObjectKey, &'a Document> {
    let mut chosen: BTreeMap<&ObjectKey, &Document> = BTreeMap::new();
    for document in documents {
        if let Some(former) = chosen.insert(&document.key, document) {
            let why = format!(
                "it is defined again here: the one at {} is not used",
                former.origin.place("")
            );
            let problem = Problem::of(document.key.clone(), "", Reason::Duplicate(why));
            problems.push(document.origin.locate(problem));
        }
    }
    chosen
}

/// The object, with its problems put where it stands.
fn keep<T>(
    parsed: Result<Parsed<T>, Box<Problem>>,
    origin: &Origin,
    problems: &mut Vec<Problem>,
) -> Option<T> {
    match parsed {
        Ok(parsed) => {
            problems.extend(parsed.problems.into_iter().map(|problem| origin.locate(problem)));
            Some(parsed.object)
        }
        Err(problem) => {
            problems.push(origin.locate(*problem));
            None
        }
    }
}

/// Why the mirroring controller would leave Endpoints of this Service alone, if it would.
fn unmirrored(service: Option<&(Service, Arc<Origin>)>) -> Option<&'static str> {
    match service {
        None => Some("there is no Service of this name: it has no effect"),
        Some((service, _)) if !service.selector.is_empty() => Some(
            "its Service has a selector, so it has no effect: give Pods or EndpointSlices, or remove the selector",
        ),
        Some(_) => None,
    }
}
