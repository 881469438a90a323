//! One YAML document to API objects: which kind it is, its fields, and where each of them stands.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{self as core, Endpoints, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::ServiceCIDR;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::yaml::{self, Node, Position};
use crate::object::{Kind, ObjectKey, Place, Problem, Reason};

/// Everything a file holds.
#[derive(Clone, Debug, Default)]
pub(super) struct File {
    pub(super) documents: Vec<Document>,
    pub(super) problems: Vec<Problem>,
    /// Objects of kinds that play no part here.
    pub(super) ignored: usize,
}

/// An object with its origin.
#[derive(Clone, Debug)]
pub(super) struct Document {
    pub(super) key: ObjectKey,
    pub(super) origin: Arc<Origin>,
    pub(super) body: Body,
}

#[derive(Clone, Debug)]
pub(super) enum Body {
    Service(Box<Service>),
    Slice(Box<EndpointSlice>),
    Endpoints(Box<Endpoints>),
    Pod(Box<Pod>),
    Node(Box<core::Node>),
    ServiceCidr(Box<ServiceCIDR>),
}

/// Where an object and its fields were read. Knows how to find a field rather than where each one is: a tree of
/// positions is many times larger than its text, and hardly anybody asks.
#[derive(Clone, Debug)]
pub(super) struct Origin {
    file: Arc<str>,
    document: Arc<str>,
    lines_before: u64,
    /// Path of the object in its document, if that is a list.
    item: String,
    at: Position,
}

impl Origin {
    /// The place of a field, or of the object if the field is empty.
    pub(super) fn place(&self, field: &str) -> Place {
        let path = match (self.item.as_str(), field) {
            (_, "") => return place(&self.file, self.at),
            ("", field) => field.to_owned(),
            (item, field) => format!("{item}.{field}"),
        };
        let found = yaml::parse(self.lines_before, &self.document).map(|node| node.find(&path));
        place(&self.file, found.unwrap_or(self.at))
    }

    /// A problem of this object, with its place.
    pub(super) fn locate(&self, mut problem: Problem) -> Problem {
        problem.place = Some(self.place(&problem.field));
        problem
    }
}

fn place(file: &Arc<str>, at: Position) -> Place {
    Place { file: file.clone(), line: at.line, column: at.column }
}

impl File {
    /// Whether something in the file could not be used, so that objects may be missing from it by mistake.
    pub(super) fn is_broken(&self) -> bool {
        self.problems.iter().any(|problem| problem.reason.is_error())
    }

    /// Reads all documents of a file.
    pub(super) fn read(name: &Arc<str>, text: &str) -> Self {
        let mut file = Self::default();
        for (lines_before, document) in yaml::split(text) {
            match yaml::parse(lines_before, document) {
                Ok(node) => {
                    let origin = Origin {
                        file: name.clone(),
                        document: document.into(),
                        lines_before,
                        item: String::new(),
                        at: node.at,
                    };
                    file.object(origin, node, None);
                }
                Err(error) => file.problems.push(Problem {
                    place: Some(place(name, error.at)),
                    object: None,
                    field: String::new(),
                    reason: Reason::Unreadable(error.message),
                }),
            }
        }
        file
    }

    /// One object, or a list of them. `listed` are API version and kind of the items of a typed list.
    fn object(&mut self, origin: Origin, mut node: Node, listed: Option<(&str, &str)>) {
        let text = |field| node.text(field).map(str::to_owned);
        let version = text("apiVersion").or_else(|| listed.map(|(version, _)| version.to_owned()));
        let kind = text("kind").or_else(|| listed.map(|(_, kind)| kind.to_owned()));
        let (Some(version), Some(kind)) = (version, kind) else {
            let field = if node.text("kind").is_none() { "kind" } else { "apiVersion" };
            let why =
                format!("there is no `{field}`: begin the object with `apiVersion` and `kind`");
            self.problems.push(Problem {
                place: Some(origin.place("")),
                object: None,
                field: field.into(),
                reason: Reason::Missing(why),
            });
            return;
        };
        if let Some(item_kind) = kind.strip_suffix("List") {
            let listed = (!item_kind.is_empty()).then_some((version.as_str(), item_kind));
            for (i, item) in node.take_list("items").into_iter().enumerate() {
                let origin = Origin { item: format!("items[{i}]"), at: item.at, ..origin.clone() };
                self.object(origin, item, listed);
            }
            return;
        }
        match (version.as_str(), kind.as_str()) {
            ("v1", "Service") => {
                self.typed(origin, node, Kind::Service, |s: &Service| &s.metadata, Body::Service)
            }
            ("discovery.k8s.io/v1", "EndpointSlice") => {
                self.typed(
                    origin,
                    node,
                    Kind::EndpointSlice,
                    |s: &EndpointSlice| &s.metadata,
                    Body::Slice,
                );
            }
            ("v1", "Endpoints") => {
                self.typed(
                    origin,
                    node,
                    Kind::Endpoints,
                    |e: &Endpoints| &e.metadata,
                    Body::Endpoints,
                );
            }
            ("v1", "Pod") => self.typed(origin, node, Kind::Pod, |p: &Pod| &p.metadata, Body::Pod),
            ("v1", "Node") => {
                self.typed(origin, node, Kind::Node, |n: &core::Node| &n.metadata, Body::Node);
            }
            ("networking.k8s.io/v1", "ServiceCIDR") => {
                self.typed(
                    origin,
                    node,
                    Kind::ServiceCidr,
                    |r: &ServiceCIDR| &r.metadata,
                    Body::ServiceCidr,
                );
            }
            _ => self.ignored += 1,
        }
    }

    fn typed<T: DeserializeOwned>(
        &mut self,
        origin: Origin,
        node: Node,
        kind: Kind,
        metadata: fn(&T) -> &ObjectMeta,
        body: fn(Box<T>) -> Body,
    ) {
        let (parsed, unknown) = deserialize::<T>(&node);
        let key = match &parsed {
            Ok(object) => ObjectKey::of(kind, metadata(object)),
            Err(_) => named_in(kind, &node),
        };
        let before = self.problems.len();
        let mut report = |field: String, reason| {
            // The tree is at hand: no need to ask the origin.
            let place = Some(place(&origin.file, node.find(&field)));
            self.problems.push(Problem { place, object: key.clone(), field, reason });
        };
        for field in unknown {
            let reason = misplaced(kind, &field).map_or(Reason::UnknownField, Reason::Misplaced);
            report(field, reason);
        }
        match &parsed {
            Err((field, message)) => report(field.clone(), Reason::Unreadable(message.clone())),
            // If the name stands elsewhere, that was said above.
            Ok(_) if key.is_none() && node.get("name").is_none() => {
                let why = format!("{} has no name: set one", kind.name());
                report("metadata.name".into(), Reason::Missing(why));
            }
            Ok(_) => {}
        }
        let broken = self.problems[before..].iter().any(|problem| problem.reason.is_error());
        if let (Ok(object), Some(key), false) = (parsed, key, broken) {
            self.documents.push(Document {
                key,
                origin: Arc::new(origin),
                body: body(Box::new(object)),
            });
        }
    }
}

/// The object, or the path and text of the first error; and the paths of fields that nobody reads.
fn deserialize<T: DeserializeOwned>(node: &Node) -> (Result<T, (String, String)>, Vec<String>) {
    let mut unknown = Vec::new();
    let mut track = serde_path_to_error::Track::new();
    let mut json = node.json();
    fill_texts(&mut json);
    let result = {
        let deserializer = serde_path_to_error::Deserializer::new(json, &mut track);
        serde_ignored::deserialize(deserializer, |path| unknown.push(field_path(&path)))
    };
    let result = result.map_err(|error: serde_json::Error| {
        let path = track.path().to_string();
        (if path == "." { String::new() } else { path }, error.to_string())
    });
    (result, unknown)
}

/// A key without a value stands for an empty text where texts belong, as for the API server.
fn fill_texts(object: &mut Value) {
    for map in ["/metadata/labels", "/metadata/annotations", "/spec/selector"] {
        let texts = object.pointer_mut(map).and_then(Value::as_object_mut);
        for text in texts.into_iter().flat_map(|map| map.values_mut()) {
            if text.is_null() {
                *text = "".into();
            }
        }
    }
}

/// A path as problems write it.
fn field_path(path: &serde_ignored::Path<'_>) -> String {
    use serde_ignored::Path;
    match path {
        Path::Root => String::new(),
        Path::Seq { parent, index } => format!("{}[{index}]", field_path(parent)),
        Path::Map { parent, key } => match field_path(parent) {
            parent if parent.is_empty() => key.clone(),
            parent => format!("{parent}.{key}"),
        },
        Path::Some { parent }
        | Path::NewtypeStruct { parent }
        | Path::NewtypeVariant { parent } => field_path(parent),
    }
}

/// The name of an object that can't be read as a whole.
fn named_in(kind: Kind, node: &Node) -> Option<ObjectKey> {
    let metadata = node.get("metadata")?;
    Some(ObjectKey::named(kind, metadata.text("namespace"), metadata.text("name")?))
}

/// What to change about a field that is well known elsewhere: mistakes of indentation, mostly.
fn misplaced(kind: Kind, field: &str) -> Option<String> {
    let spec = ["ports", "selector", "type", "clusterIP", "externalIPs", "externalName"];
    match field {
        "name" => Some(
            "metadata has no name; found `name` at the top level: indent it under `metadata`".into(),
        ),
        "namespace" | "labels" | "annotations" => {
            Some(format!("found `{field}` at the top level: indent it under `metadata`"))
        }
        _ if kind == Kind::Service && spec.contains(&field) => {
            Some(format!("found `{field}` at the top level: indent it under `spec`"))
        }
        _ if kind == Kind::Endpoints && is_ports_of_address(field) => Some(
            "`ports` belongs to subsets[], not to subsets[].addresses[]: indent it like `addresses`".into(),
        ),
        _ => None,
    }
}

fn is_ports_of_address(field: &str) -> bool {
    field.starts_with("subsets[") && field.contains("ddresses[") && field.ends_with("].ports")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> File {
        File::read(&Arc::from("a.yaml"), text)
    }

    fn texts(file: &File) -> Vec<String> {
        file.problems.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn lists_hold_objects_and_other_kinds_are_counted() {
        let file = read(
            "{apiVersion: v1, kind: List, items: [
               {apiVersion: v1, kind: Service, metadata: {name: a}},
               {apiVersion: apps/v1, kind: Deployment, metadata: {name: d}, spec: {anything: goes}},
               {apiVersion: serving.knative.dev/v1, kind: Service, metadata: {name: k}}]}
---
{apiVersion: v1, kind: PodList, items: [{metadata: {name: p}}], metadata: {}}
---
{apiVersion: v1, kind: EndpointsList, items: []}
",
        );
        assert_eq!(texts(&file), [""; 0]);
        assert_eq!(file.ignored, 2);
        let keys: Vec<String> =
            file.documents.iter().map(|document| document.key.to_string()).collect();
        assert_eq!(keys, ["Service default/a", "Pod default/p"]);
    }

    #[test]
    fn errors_name_place_field_and_remedy() {
        for (text, expected) in [
            (
                "kind: Service\nmetadata: {name: a}\n",
                "a.yaml:1:1: apiVersion: there is no `apiVersion`",
            ),
            ("metadata: {name: a}\n", "a.yaml:1:1: kind: there is no `kind`"),
            (
                "apiVersion: v1\nkind: Service\nspec:\n  ports: 80\n",
                "a.yaml:4:3: spec.ports: invalid type: integer `80`",
            ),
            (
                "apiVersion: v1\nkind: Service\nmetadata:\n  name: a\nspec:\n  ports:\n  - port: http\n",
                "a.yaml:7:5: Service default/a: spec.ports[0].port: invalid type: string \"http\", expected i32",
            ),
            (
                "apiVersion: v1\nkind: Service\nmetadata:\n  name: a\n  namespace: b\nspec:\n  port: 80\n",
                "a.yaml:7:3: Service b/a: spec.port: unknown field",
            ),
            (
                "apiVersion: v1\nkind: Pod\nmetadata: {}\n",
                "a.yaml:3:1: metadata.name: Pod has no name: set one",
            ),
            (
                "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nports: []\n",
                "a.yaml:4:1: Service default/a: ports: found `ports` at the top level: indent it under `spec`",
            ),
            ("a: [\n", "a.yaml:"),
        ] {
            let file = read(text);
            let [problem] = &texts(&file)[..] else { panic!("{text}: {:?}", texts(&file)) };
            assert!(problem.starts_with(expected), "{problem} is not {expected}");
        }
    }

    #[test]
    fn a_broken_document_costs_only_itself() {
        let file = read(
            "{apiVersion: v1, kind: Service, metadata: {name: a}}\n---\na: [\n---\n{apiVersion: v1, kind: Service, metadata: {name: b}}\n",
        );
        assert_eq!((file.documents.len(), file.problems.len()), (2, 1));
        assert!(file.is_broken());
    }
}
