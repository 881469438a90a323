//! The desired state: every Service and slice as last seen, and what the cluster says of itself, with three verbs and no
//! I/O.
//!
//! Each verb says which Services changed. Applying an equal object changes nothing (OBJ-12), and the result depends
//! on what was applied, not on the order (OBJ-13). Slices wait for their Service and Services for their slices.
//!
//! An endpoint that moves from one slice to another may be seen in neither for a moment (EPS-8). So the state knows
//! which endpoints have left a slice and may be on the way to another ([`State::is_moving`]). That is one that
//! - could be chosen or still served: nobody misses another;
//! - left a slice while there is another one of its family to go to, or whose slice is gone as a whole: controllers
//!   make the slice for a move before they take anything from another;
//! - has not been seen in any slice of the Service since.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;

use crate::cluster::Cluster;
use crate::directory::Directory;
use crate::object::{Kind, Object, ObjectKey, ObjectName, Service, Slice};

/// Names of Services whose rows may differ now.
pub type Changed = BTreeSet<ObjectName>;

/// See the module.
#[derive(Debug, Default)]
pub struct State {
    services: HashMap<ObjectName, Entry>,
    /// Which Service a slice counts for: a slice may change its label.
    owners: HashMap<ObjectName, ObjectName>,
    /// Services with a health check of their own: few, and looked at often.
    checked: BTreeSet<ObjectName>,
    directory: Directory,
    cluster: Cluster,
}

#[derive(Debug, Default)]
struct Entry {
    service: Option<Service>,
    /// By slice name (EPS-8): the order decides nothing but keeps compiling deterministic.
    slices: BTreeMap<ObjectName, Slice>,
    /// Endpoints that may be on their way from one slice to another.
    moving: Vec<IpAddr>,
}

impl State {
    /// The object is now like this.
    pub fn apply(&mut self, object: Object) -> Changed {
        match object {
            Object::Service(service) => self.apply_service(service),
            Object::Slice(slice) => self.apply_slice(slice),
            Object::Node(node) => {
                self.cluster.apply_node(node);
                Changed::new()
            }
            Object::ServiceCidr(ranges) => {
                self.cluster.apply_ranges(ranges);
                Changed::new()
            }
        }
    }

    /// The object is gone.
    pub fn delete(&mut self, key: &ObjectKey) -> Changed {
        match key.kind {
            Kind::Service => self.delete_service(&key.name),
            Kind::EndpointSlice => self.delete_slice(&key.name),
            Kind::Node => {
                self.cluster.delete_node(&key.name);
                Changed::new()
            }
            Kind::ServiceCidr => {
                self.cluster.delete_ranges(&key.name);
                Changed::new()
            }
            Kind::Endpoints | Kind::Pod => Changed::new(),
        }
    }

    /// These are all objects of `kind`; those named in `keep` exist too, as they were.
    pub fn reset(
        &mut self,
        kind: Kind,
        objects: Vec<Object>,
        keep: &BTreeSet<ObjectName>,
    ) -> Changed {
        let listed: HashSet<ObjectName> = objects.iter().map(|object| object.key().name).collect();
        let mut changed = Changed::new();
        for object in objects {
            changed.extend(self.apply(object));
        }
        let gone: Vec<ObjectName> = self
            .names(kind)
            .filter(|name| !listed.contains(*name) && !keep.contains(*name))
            .cloned()
            .collect();
        for name in gone {
            changed.extend(self.delete(&ObjectKey { kind, name }));
        }
        changed
    }

    /// What the cluster says of itself.
    #[must_use]
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// A Service.
    #[must_use]
    pub fn service(&self, name: &ObjectName) -> Option<&Service> {
        self.services.get(name)?.service.as_ref()
    }

    /// All Services, in no particular order.
    pub fn services(&self) -> impl Iterator<Item = &Service> {
        self.services.values().filter_map(|entry| entry.service.as_ref())
    }

    /// Services with a health check node port, in order of their names.
    pub fn health_checked(&self) -> impl Iterator<Item = &Service> {
        self.checked.iter().filter_map(|name| self.service(name))
    }

    /// The slices of a Service that hold endpoints to send packets to, in order of their names.
    pub fn slices(&self, service: &ObjectName) -> impl Iterator<Item = &Slice> + Clone {
        // EXC-3
        self.all_slices(service).filter(|slice| !slice.headless_label)
    }

    /// The slices of a Service, with those that are for DNS only, in order of their names.
    pub fn all_slices(&self, service: &ObjectName) -> impl Iterator<Item = &Slice> + Clone {
        self.services.get(service).map(|entry| entry.slices.values()).into_iter().flatten()
    }

    /// A slice that belongs to a Service.
    #[must_use]
    pub fn slice(&self, name: &ObjectName) -> Option<&Slice> {
        self.services.get(self.owners.get(name)?)?.slices.get(name)
    }

    /// Whether there is a Service in this namespace.
    #[must_use]
    pub fn has_namespace(&self, namespace: &str) -> bool {
        self.directory.has_namespace(namespace)
    }

    /// Services with this cluster IP, and headless ones with the slices that hold it as an endpoint.
    pub fn at(&self, address: IpAddr) -> impl Iterator<Item = (&Service, Option<&Slice>)> {
        self.directory.at(address).filter_map(|key| {
            if key.kind == Kind::Service {
                return Some((self.service(&key.name)?, None));
            }
            let entry = self.services.get(self.owners.get(&key.name)?)?;
            Some((entry.service.as_ref()?, Some(entry.slices.get(&key.name)?)))
        })
    }

    /// Whether endpoints of a Service may be on their way from one of its slices to another.
    #[must_use]
    pub fn is_moving(&self, service: &ObjectName) -> bool {
        let entry = self.services.get(service);
        entry.is_some_and(|entry| entry.service.is_some() && !entry.moving.is_empty())
    }

    /// What is on its way in a Service has gone for good.
    pub fn settle(&mut self, service: &ObjectName) {
        if let Some(entry) = self.services.get_mut(service) {
            entry.moving = Vec::new();
        }
    }

    fn names(&self, kind: Kind) -> Box<dyn Iterator<Item = &ObjectName> + '_> {
        match kind {
            Kind::Service => Box::new(self.services().map(|service| &service.name)),
            Kind::EndpointSlice => Box::new(self.owners.keys()),
            Kind::Node => Box::new(self.cluster.node_names()),
            Kind::ServiceCidr => Box::new(self.cluster.ranges_names()),
            Kind::Endpoints | Kind::Pod => Box::new(std::iter::empty()),
        }
    }

    fn apply_service(&mut self, service: Service) -> Changed {
        let name = service.name.clone();
        let entry = self.services.entry(name.clone()).or_default();
        if entry.service.as_ref() == Some(&service) {
            return Changed::new();
        }
        if service.health_check_node_port.is_some() {
            self.checked.insert(name.clone());
        } else {
            self.checked.remove(&name);
        }
        if let Some(former) = &entry.service {
            self.directory.remove_service(former, entry.slices.values());
        }
        self.directory.add_service(&service, entry.slices.values());
        entry.service = Some(service);
        [name].into()
    }

    fn delete_service(&mut self, name: &ObjectName) -> Changed {
        let Some(entry) = self.services.get_mut(name) else { return Changed::new() };
        let was = entry.service.take();
        self.checked.remove(name);
        if let Some(service) = &was {
            self.directory.remove_service(service, entry.slices.values());
        }
        self.forget_if_empty(name);
        was.map(|service| service.name).into_iter().collect()
    }

    fn apply_slice(&mut self, slice: Slice) -> Changed {
        let mut changed = Changed::new();
        // A slice that names another Service than before leaves the old one first.
        if self.owners.get(&slice.name).is_some_and(|owner| Some(owner) != slice.service.as_ref()) {
            changed = self.delete_slice(&slice.name);
        }
        let Some(service) = slice.service.clone() else { return changed };
        let entry = self.services.entry(service.clone()).or_default();
        if let Some(former) = entry.slices.get_mut(&slice.name) {
            if *former == slice {
                return changed;
            }
            if entry.service.as_ref().is_some_and(Service::is_headless) {
                self.directory.remove_slice(former);
                self.directory.add_slice(&slice);
            }
            let former = std::mem::replace(former, slice);
            entry.arrived(&former.name);
            if entry.slices.values().filter(|other| other.v4 == former.v4).nth(1).is_some() {
                entry.left(former);
            }
        } else {
            let name = slice.name.clone();
            self.owners.insert(name.clone(), service.clone());
            if entry.service.as_ref().is_some_and(Service::is_headless) {
                self.directory.add_slice(&slice);
            }
            entry.slices.insert(name.clone(), slice);
            entry.arrived(&name);
        }
        changed.insert(service);
        changed
    }

    fn delete_slice(&mut self, name: &ObjectName) -> Changed {
        let Some(service) = self.owners.remove(name) else { return Changed::new() };
        if let Some(entry) = self.services.get_mut(&service)
            && let Some(gone) = entry.slices.remove(name)
        {
            if entry.service.as_ref().is_some_and(Service::is_headless) {
                self.directory.remove_slice(&gone);
            }
            entry.left(gone);
        }
        self.forget_if_empty(&service);
        [service].into()
    }

    fn forget_if_empty(&mut self, name: &ObjectName) {
        if self.services.get(name).is_some_and(|e| e.service.is_none() && e.slices.is_empty()) {
            self.services.remove(name);
        }
    }
}

impl Entry {
    /// What a slice holds now is no longer on its way.
    fn arrived(&mut self, slice: &ObjectName) {
        if !self.moving.is_empty() {
            let slice = &self.slices[slice];
            self.moving.retain(|address| slice.endpoints.iter().all(|e| e.address != *address));
        }
    }

    /// The endpoints of this version of a slice that are in none of the slices now may be on their way.
    fn left(&mut self, former: Slice) {
        if self.service.is_none() {
            return;
        }
        let slices = self.slices.values().filter(|slice| slice.v4 == former.v4);
        let here: HashSet<IpAddr> =
            slices.flat_map(|slice| &slice.endpoints).map(|endpoint| endpoint.address).collect();
        let gone = former.endpoints.iter().filter(|endpoint| endpoint.ready || endpoint.serving);
        let gone = gone.map(|endpoint| endpoint.address);
        self.moving.extend(gone.filter(|address| !here.contains(address)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(name: &str, port: i32) -> Object {
        let yaml = format!(
            "{{metadata: {{name: {name}}}, spec: {{clusterIP: 10.96.0.1, ports: [{{port: {port}}}]}}}}"
        );
        let service = serde_saphyr::from_str(&yaml).expect("readable");
        Object::Service(Service::parse(&service).expect("named").object)
    }

    fn slice(name: &str, of: &str, address: &str) -> Object {
        let yaml = format!(
            "{{metadata: {{name: {name}, labels: {{kubernetes.io/service-name: '{of}'}}}}, addressType: IPv4, endpoints: [{{addresses: [{address}]}}]}}"
        );
        let slice = serde_saphyr::from_str(&yaml).expect("readable");
        Object::Slice(Slice::parse(&slice).expect("named").object)
    }

    fn names(changed: Changed) -> Vec<String> {
        changed.into_iter().map(|name| name.name().to_owned()).collect()
    }

    #[test]
    fn obj_12_an_equal_object_changes_nothing() {
        let mut state = State::default();
        assert_eq!(names(state.apply(service("a", 80))), ["a"]);
        assert_eq!(names(state.apply(service("a", 80))), [""; 0]);
        assert_eq!(names(state.apply(slice("s", "a", "10.0.0.1"))), ["a"]);
        assert_eq!(names(state.apply(slice("s", "a", "10.0.0.1"))), [""; 0]);
        assert_eq!(names(state.apply(slice("s", "a", "10.0.0.2"))), ["a"]);
    }

    #[test]
    fn eps_1_a_slice_that_changes_its_label_changes_both_services() {
        let mut state = State::default();
        state.apply(slice("s", "a", "10.0.0.1"));
        assert_eq!(names(state.apply(slice("s", "b", "10.0.0.1"))), ["a", "b"]);
        assert_eq!(names(state.apply(slice("s", "", "10.0.0.1"))), ["b"]);
        assert_eq!(names(state.apply(slice("s", "", "10.0.0.1"))), [""; 0]);
        assert!(state.services.is_empty() && state.owners.is_empty(), "nothing is left behind");
    }

    #[test]
    fn i12_a_reset_removes_what_is_not_listed_and_keeps_what_is_named() {
        let mut state = State::default();
        for object in
            [service("a", 80), service("b", 80), service("c", 80), slice("s", "a", "10.0.0.1")]
        {
            state.apply(object);
        }
        let keep = [ObjectName::new("default", "b")].into();
        assert_eq!(
            names(state.reset(Kind::Service, vec![service("a", 80), service("d", 80)], &keep)),
            ["c", "d"]
        );
        assert_eq!(state.services().count(), 3);
        assert_eq!(state.slices(&ObjectName::new("default", "a")).count(), 1, "other kinds stay");
        assert_eq!(names(state.reset(Kind::EndpointSlice, vec![], &BTreeSet::new())), ["a"]);
    }

    #[test]
    fn deleting_what_is_not_there_changes_nothing() {
        let mut state = State::default();
        for kind in [Kind::Service, Kind::EndpointSlice, Kind::Pod] {
            let key = ObjectKey { kind, name: ObjectName::new("default", "a") };
            assert_eq!(names(state.delete(&key)), [""; 0]);
        }
    }
}
