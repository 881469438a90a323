//! The recorded files.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

/// One file.
pub struct Transcript {
    pub name: String,
    pub lines: Vec<Line>,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum Dir {
    Request,
    Response,
    Chunk,
    End,
    Note,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Line {
    pub t: f64,
    pub dir: Dir,
    /// 0 for notes.
    #[serde(default)]
    pub id: u32,
    #[serde(default)]
    pub method: String,
    #[serde(default)]
    pub path: String,
    #[serde(default)]
    pub user: String,
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    #[serde(default)]
    pub status: u16,
    pub body: Option<Value>,
    pub event: Option<Value>,
    pub text: Option<String>,
    #[serde(default)]
    pub by: String,
}

impl Line {
    /// The path without the query.
    pub fn place(&self) -> &str {
        self.path.split('?').next().unwrap_or_default()
    }

    pub fn is_watch(&self) -> bool {
        self.method == "GET" && self.path.contains("watch=true")
    }

    pub fn changes(&self) -> bool {
        self.method != "GET"
    }
}

impl Transcript {
    /// All files, by name.
    pub fn all() -> Vec<Self> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/transcripts");
        let files = std::fs::read_dir(folder).expect("the fixtures");
        let paths = files.map(|file| file.expect("readable").path());
        let mut all: Vec<Self> = paths
            .filter(|path| path.extension().is_some_and(|extension| extension == "jsonl"))
            .map(|path| Self::read(&path))
            .collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// The file whose name begins so.
    pub fn of(number: &str) -> Self {
        let mut all = Self::all().into_iter();
        all.find(|file| file.name.starts_with(number)).expect("such a file")
    }

    fn read(path: &Path) -> Self {
        let text = std::fs::read_to_string(path).expect("readable");
        let lines = text.lines().map(|line| serde_json::from_str(line).expect("a line")).collect();
        let name = path.file_stem().and_then(|name| name.to_str()).expect("a name").to_owned();
        Self { name, lines }
    }

    pub fn requests(&self) -> impl Iterator<Item = &Line> {
        self.lines.iter().filter(|line| line.dir == Dir::Request)
    }

    pub fn request(&self, id: u32) -> &Line {
        self.requests().find(|line| line.id == id).expect("a request")
    }

    pub fn response(&self, id: u32) -> &Line {
        let mut of = self.lines.iter().filter(|line| line.id == id);
        of.find(|line| line.dir == Dir::Response).expect("an answer")
    }

    /// The JSON body of an answer.
    pub fn body(&self, id: u32) -> Option<&Value> {
        let mut of = self.lines.iter().filter(|line| line.id == id && line.dir == Dir::Chunk);
        of.find_map(|line| line.body.as_ref())
    }

    pub fn events(&self, id: u32) -> impl Iterator<Item = &Value> {
        self.lines.iter().filter(move |line| line.id == id).filter_map(|line| line.event.as_ref())
    }
}

/// An object's version, if it has one that is a number.
pub fn version(object: &Value) -> Option<u64> {
    object["metadata"]["resourceVersion"].as_str()?.parse().ok()
}
