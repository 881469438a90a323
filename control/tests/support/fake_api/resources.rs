//! Which resources there are: the server knows their names and shapes, and nothing of what they mean.

/// A resource and what its answers look like.
#[derive(Debug)]
pub(crate) struct Resource {
    pub(super) group: &'static str,
    pub(super) plural: &'static str,
    pub(super) kind: &'static str,
    pub(super) namespaced: bool,
    /// `status` is written on its own address only.
    pub(super) status: bool,
    /// `metadata.generation` counts changes of what is wanted.
    pub(super) generation: bool,
    /// A deletion answers with the object, else with a Status.
    pub(super) deletion_shows_object: bool,
}

impl Resource {
    const fn new(group: &'static str, plural: &'static str, kind: &'static str) -> Self {
        Self {
            group,
            plural,
            kind,
            namespaced: true,
            status: false,
            generation: false,
            deletion_shows_object: false,
        }
    }

    const fn cluster_wide(mut self) -> Self {
        self.namespaced = false;
        self
    }

    const fn with_status(mut self) -> Self {
        self.status = true;
        self
    }

    const fn with_generation(mut self) -> Self {
        self.generation = true;
        self
    }

    const fn shown_when_deleted(mut self) -> Self {
        self.deletion_shows_object = true;
        self
    }

    /// `services`, `endpointslices.discovery.k8s.io`.
    pub(super) fn full_name(&self) -> String {
        full_name(self.plural, self.group)
    }

    pub(super) fn api_version(&self) -> String {
        if self.group.is_empty() { "v1".into() } else { format!("{}/v1", self.group) }
    }
}

/// A name with its group.
pub(super) fn full_name(name: &str, group: &str) -> String {
    if group.is_empty() { name.into() } else { format!("{name}.{group}") }
}

/// All resources. All are version v1.
static RESOURCES: [Resource; 16] = [
    Resource::new("", "services", "Service").with_status().shown_when_deleted(),
    Resource::new("", "endpoints", "Endpoints"),
    Resource::new("", "pods", "Pod").with_status().shown_when_deleted(),
    Resource::new("", "nodes", "Node").cluster_wide().with_status(),
    Resource::new("", "namespaces", "Namespace").cluster_wide().with_status().shown_when_deleted(),
    Resource::new("", "events", "Event"),
    Resource::new("", "secrets", "Secret"),
    Resource::new("events.k8s.io", "events", "Event"),
    Resource::new("discovery.k8s.io", "endpointslices", "EndpointSlice").with_generation(),
    Resource::new("networking.k8s.io", "servicecidrs", "ServiceCIDR").cluster_wide().with_status(),
    Resource::new("coordination.k8s.io", "leases", "Lease"),
    Resource::new("apps", "deployments", "Deployment").with_status().with_generation(),
    Resource::new("rbac.authorization.k8s.io", "clusterroles", "ClusterRole").cluster_wide(),
    Resource::new("rbac.authorization.k8s.io", "clusterrolebindings", "ClusterRoleBinding")
        .cluster_wide(),
    Resource::new("rbac.authorization.k8s.io", "roles", "Role"),
    Resource::new("rbac.authorization.k8s.io", "rolebindings", "RoleBinding"),
];

/// The resource at a place in the API.
pub(super) fn find(group: &str, plural: &str) -> Option<&'static Resource> {
    RESOURCES.iter().find(|resource| resource.group == group && resource.plural == plural)
}

/// The resource of an object. One without `apiVersion` is of the first group that has its kind.
pub(super) fn of_kind(kind: &str, api_version: Option<&str>) -> Option<&'static Resource> {
    let fits = |resource: &&Resource| {
        resource.kind == kind && api_version.is_none_or(|wanted| wanted == resource.api_version())
    };
    RESOURCES.iter().find(fits)
}
