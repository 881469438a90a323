//! The desired state: every Service and slice as last seen, with three verbs and no I/O.
//!
//! Each verb says which Services changed. Applying an equal object changes nothing (OBJ-12), and the result depends
//! on what was applied, not on the order (OBJ-13). Slices wait for their Service and Services for their slices.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::object::{Kind, Object, ObjectKey, ObjectName, Service, Slice};

/// Names of Services whose rows may differ now.
pub type Changed = BTreeSet<ObjectName>;

/// See the module.
#[derive(Debug, Default)]
pub struct State {
    services: HashMap<ObjectName, Entry>,
    /// Which Service a slice counts for: a slice may change its label.
    owners: HashMap<ObjectName, ObjectName>,
}

#[derive(Debug, Default)]
struct Entry {
    service: Option<Service>,
    /// By slice name (EPS-8): the order decides nothing but keeps compiling deterministic.
    slices: BTreeMap<ObjectName, Slice>,
}

impl State {
    /// The object is now like this.
    pub fn apply(&mut self, object: Object) -> Changed {
        match object {
            Object::Service(service) => self.apply_service(service),
            Object::Slice(slice) => self.apply_slice(slice),
        }
    }

    /// The object is gone.
    pub fn delete(&mut self, key: &ObjectKey) -> Changed {
        match key.kind {
            Kind::Service => self.delete_service(&key.name),
            Kind::EndpointSlice => self.delete_slice(&key.name),
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
        let listed: BTreeSet<ObjectName> = objects.iter().map(|object| object.key().name).collect();
        let mut changed = Changed::new();
        for object in objects {
            changed.append(&mut self.apply(object));
        }
        let gone: Vec<ObjectName> = self
            .names(kind)
            .filter(|name| !listed.contains(*name) && !keep.contains(*name))
            .cloned()
            .collect();
        for name in gone {
            changed.append(&mut self.delete(&ObjectKey { kind, name }));
        }
        changed
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

    /// The slices of a Service, in order of their names.
    pub fn slices(&self, service: &ObjectName) -> impl Iterator<Item = &Slice> + Clone {
        self.services.get(service).map(|entry| entry.slices.values()).into_iter().flatten()
    }

    fn names(&self, kind: Kind) -> Box<dyn Iterator<Item = &ObjectName> + '_> {
        match kind {
            Kind::Service => Box::new(self.services().map(|service| &service.name)),
            Kind::EndpointSlice => Box::new(self.owners.keys()),
            Kind::Endpoints | Kind::Pod => Box::new(std::iter::empty()),
        }
    }

    fn apply_service(&mut self, service: Service) -> Changed {
        let name = service.name.clone();
        let entry = self.services.entry(name.clone()).or_default();
        if entry.service.as_ref() == Some(&service) {
            return Changed::new();
        }
        entry.service = Some(service);
        [name].into()
    }

    fn delete_service(&mut self, name: &ObjectName) -> Changed {
        let Some(entry) = self.services.get_mut(name) else { return Changed::new() };
        let was = entry.service.take();
        self.forget_if_empty(name);
        was.map(|service| service.name).into_iter().collect()
    }

    fn apply_slice(&mut self, slice: Slice) -> Changed {
        let mut changed = Changed::new();
        // A slice that names another Service than before leaves the old one first.
        if self.owners.get(&slice.name).is_some_and(|owner| Some(owner) != slice.service.as_ref()) {
            changed.append(&mut self.delete_slice(&slice.name));
        }
        let Some(service) = slice.service.clone() else { return changed };
        self.owners.insert(slice.name.clone(), service.clone());
        let entry = self.services.entry(service.clone()).or_default();
        if entry.slices.get(&slice.name) != Some(&slice) {
            entry.slices.insert(slice.name.clone(), slice);
            changed.insert(service);
        }
        changed
    }

    fn delete_slice(&mut self, name: &ObjectName) -> Changed {
        let Some(service) = self.owners.remove(name) else { return Changed::new() };
        if let Some(entry) = self.services.get_mut(&service) {
            entry.slices.remove(name);
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
