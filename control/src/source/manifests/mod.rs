//! Objects from files: a cluster's worth of YAML without a cluster.
//!
//! A file, or all `*.yaml`, `*.yml` and `*.json` of a folder in order of their names, each with any number of
//! documents. Whatever changes is read anew and given out as complete lists; unchanged files are not parsed again.
//!
//! What a broken file gave while it was whole stays: an object missing from a file with errors keeps its last version
//! until the file is whole again, so that a slip of the pen takes nothing down. What was never read can't be served.
//! Fields an API server assigns are filled in: see [`DEFAULT_SERVICE_CIDRS`].

mod defaults;
mod document;
mod resolve;
mod watch;
mod yaml;

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use defaults::DEFAULT_SERVICE_CIDRS;
pub use watch::run;

use defaults::Allocator;
use document::{Document, File};
use resolve::{Resolved, resolve};

use crate::object::{Kind, Object, ObjectKey, Problem};
use crate::settings::Settings;
use crate::source::{Change, Event};

/// Reads manifests, again and again.
#[derive(Debug)]
pub struct Manifests {
    path: PathBuf,
    allocator: Allocator,
    files: BTreeMap<Arc<str>, Loaded>,
    /// Something was read already.
    loaded: bool,
}

/// A file as last read.
#[derive(Debug, Default)]
struct Loaded {
    text: String,
    problems: Vec<Problem>,
    ignored: usize,
    documents: Vec<Document>,
}

impl Manifests {
    /// The manifests at `path`; nothing is read yet.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>, settings: &Settings) -> Self {
        Self {
            path: path.into(),
            allocator: Allocator::new(&settings.service_cidrs),
            files: BTreeMap::new(),
            loaded: false,
        }
    }

    /// Reads what is there now. Gives events if anything changed.
    pub fn load(&mut self) -> io::Result<Vec<Event>> {
        let mut texts = BTreeMap::new();
        for path in files_of(&self.path)? {
            let name: Arc<str> = path.to_string_lossy().into();
            match std::fs::read(&path) {
                Ok(bytes) => drop(texts.insert(name, String::from_utf8_lossy(&bytes).into_owned())),
                // Gone since the folder was listed: the next look says the same.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(io::Error::new(error.kind(), format!("{name}: {error}"))),
            }
        }
        Ok(self.take(texts))
    }

    /// Takes `text` for the only file, called `name`.
    pub fn load_text(&mut self, name: &str, text: &str) -> Vec<Event> {
        self.take(BTreeMap::from([(name.into(), text.to_owned())]))
    }

    /// Objects of kinds that play no part here, Deployments for example.
    #[must_use]
    pub fn ignored(&self) -> usize {
        self.files.values().map(|file| file.ignored).sum()
    }

    fn take(&mut self, texts: BTreeMap<Arc<str>, String>) -> Vec<Event> {
        let mut former = std::mem::take(&mut self.files);
        let mut changed = !std::mem::replace(&mut self.loaded, true);
        for (name, text) in texts {
            let loaded = match former.remove(&name) {
                Some(same) if same.text == text => same,
                other => {
                    changed = true;
                    Loaded::read(&name, text, other)
                }
            };
            self.files.insert(name, loaded);
        }
        changed |= !former.is_empty();
        if changed { self.resolve() } else { Vec::new() }
    }

    fn resolve(&mut self) -> Vec<Event> {
        let documents = self.files.values().flat_map(|file| &file.documents);
        let Resolved { services, slices, nodes, service_cidrs, mut problems } =
            resolve(documents, &mut self.allocator);
        problems.extend(self.files.values().flat_map(|file| file.problems.iter().cloned()));
        problems.sort();
        let reset = |kind, objects: Vec<Object>| {
            let objects = objects.into_iter().map(Change::of).collect();
            Event::Reset { kind, objects, unreadable: Vec::new() }
        };
        vec![
            Event::Problems(problems),
            reset(Kind::Node, nodes),
            reset(Kind::ServiceCidr, service_cidrs),
            reset(Kind::Service, services),
            reset(Kind::EndpointSlice, slices),
        ]
    }
}

impl Loaded {
    fn read(name: &Arc<str>, text: String, former: Option<Self>) -> Self {
        let file = File::read(name, &text);
        let mut documents = Vec::new();
        if file.is_broken() {
            let here: HashSet<&ObjectKey> =
                file.documents.iter().map(|document| &document.key).collect();
            documents.extend(former.into_iter().flat_map(|former| former.documents));
            documents.retain(|document| !here.contains(&document.key));
        }
        let File { documents: mut new, problems, ignored } = file;
        documents.append(&mut new);
        Self { text, problems, ignored, documents }
    }
}

/// The files to read, in order.
fn files_of(path: &Path) -> io::Result<Vec<PathBuf>> {
    let with_path =
        |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    if !std::fs::metadata(path).map_err(with_path)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).map_err(with_path)? {
        let path = entry.map_err(with_path)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let extension = path.extension().and_then(|extension| extension.to_str());
        // Editors' and ConfigMap volumes' own files begin with a dot. A link is what it leads to.
        if !name.starts_with('.')
            && matches!(extension, Some("yaml" | "yml" | "json"))
            && path.is_file()
        {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}
