//! `docs/rules.md`: which tests prove which rule of Services.
//!
//! A test proves the rules in its name (`ver_2_pods_…`), and those that its body or comment names (`VER-2`). What a rule
//! says stands in `docs/rules.yaml`. The page is compared, and written when `RULES=write` is in the environment.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// Folders with tests.
const FOLDERS: [&str; 4] = ["control", "dataplane", "src", "tests"];

/// A family of rules, as in `docs/rules.yaml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Family {
    about: String,
    rules: BTreeMap<u32, String>,
    #[serde(default)]
    not_ours: BTreeMap<u32, String>,
    #[serde(default)]
    differs: BTreeMap<u32, String>,
}

/// `VER` and 2.
type Rule = (String, u32);

/// Function names by file.
type Tests = BTreeMap<String, BTreeSet<String>>;

#[test]
fn the_page_of_rules_is_what_the_tests_say() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let families = families(&root);
    let mut proofs: BTreeMap<Rule, Tests> = BTreeMap::new();
    for folder in FOLDERS {
        for file in sources(&root.join(folder)) {
            let text = std::fs::read_to_string(&file).expect("readable");
            let name = file.strip_prefix(&root).expect("inside").to_string_lossy().into_owned();
            for (test, rules) in tests(&text, &families) {
                for rule in rules {
                    let known = families[&rule.0].rules.contains_key(&rule.1);
                    assert!(known, "{name}: {test} names {}-{}, which is no rule", rule.0, rule.1);
                    let tests = proofs.entry(rule).or_default();
                    tests.entry(name.clone()).or_default().insert(test.clone());
                }
            }
        }
    }
    let page = page(&families, &proofs);
    let path = root.join("docs/rules.md");
    if std::env::var("RULES").is_ok_and(|mode| mode == "write") {
        std::fs::write(&path, &page).expect("writable");
    }
    let written = std::fs::read_to_string(&path).expect("docs/rules.md");
    assert!(written == page, "docs/rules.md is not what the tests say: run `just rules`");
}

#[test]
fn rules_are_found_in_names_comments_and_texts_of_tests() {
    let text = "
/// Not a test: VER-1.
fn helper() {}

// LSR-5 above.
#[test]
fn ver_2_ver_10_and_verdict_3_and_sel() {
    check(\"MSQ-2\", REJ-x, VER-2) // CVE-2020, XVER-3
}

mod inner {
    #[tokio::test]
    async fn plain() {
        if x {
        }
        assert!(y, \"REJ-7\");
    }
    fn other() -> Vec<Case> {
        vec![case(\"DUA-1 x\")]
    }
}
";
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let found = tests(text, &families(&root)).into_iter().map(|(name, rules)| {
        let rules = rules.iter().map(|(family, number)| format!("{family}-{number}"));
        format!("{name}: {}", rules.collect::<Vec<_>>().join(" "))
    });
    assert_eq!(
        found.collect::<Vec<_>>(),
        [
            "ver_2_ver_10_and_verdict_3_and_sel: LSR-5 MSQ-2 VER-2 VER-10",
            "plain: REJ-7",
            "other: DUA-1"
        ]
    );
}

fn families(root: &Path) -> BTreeMap<String, Family> {
    let text = std::fs::read_to_string(root.join("docs/rules.yaml")).expect("docs/rules.yaml");
    serde_saphyr::from_str(&text).expect("families of rules")
}

/// All Rust files of a folder, this one excepted.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("readable").path();
        if path.is_dir() {
            files.append(&mut sources(&path));
        } else if path.extension().is_some_and(|e| e == "rs") && !path.ends_with("tests/rules.rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// The tests of a file that name rules. Relies on rustfmt: a function ends at a brace in its own column.
fn tests(text: &str, families: &BTreeMap<String, Family>) -> Vec<(String, BTreeSet<Rule>)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let Some(name) = function(line) else { continue };
        let above = lines[..at].iter().rev().take_while(|line| {
            let line = line.trim_start();
            line.starts_with("#[") || line.starts_with("//")
        });
        let above: Vec<&str> = above.copied().collect();
        let is_test = above.iter().any(|line| line.contains("test]") || line.contains("test("))
            // Tables of packets are made of cases.
            || line.contains("-> Vec<Case>")
            || line.contains("-> Case");
        if !is_test {
            continue;
        }
        let indent = &line[..line.len() - line.trim_start().len()];
        let end = format!("{indent}}}");
        let body = lines[at..].iter().take_while(|line| **line != end);
        let mut rules = named(name, families);
        for line in above.iter().chain(body) {
            rules.extend(mentioned(line, families));
        }
        if !rules.is_empty() {
            found.push((name.to_owned(), rules));
        }
    }
    found
}

fn function(line: &str) -> Option<&str> {
    let line = line.trim_start();
    let line = line.strip_prefix("pub ").unwrap_or(line);
    let line = line.strip_prefix("async ").unwrap_or(line);
    line.strip_prefix("fn ")?.split(['(', '<']).next()
}

/// Rules in a name: `ver_2_…`.
fn named(name: &str, families: &BTreeMap<String, Family>) -> BTreeSet<Rule> {
    let words: Vec<String> = name.split('_').map(str::to_uppercase).collect();
    let rule = |pair: &[String]| {
        let number = pair[1].parse().ok()?;
        families.contains_key(&pair[0]).then(|| (pair[0].clone(), number))
    };
    words.windows(2).filter_map(rule).collect()
}

/// Rules in a line: `VER-2`.
fn mentioned(line: &str, families: &BTreeMap<String, Family>) -> Vec<Rule> {
    let words = line.split(|c: char| !c.is_ascii_alphanumeric() && c != '-');
    let rule = |word: &str| {
        let (family, number) = word.split_once('-')?;
        families.contains_key(family).then_some(())?;
        Some((family.to_owned(), number.parse().ok()?))
    };
    words.filter_map(rule).collect()
}

fn page(families: &BTreeMap<String, Family>, proofs: &BTreeMap<Rule, Tests>) -> String {
    let all = families.iter().flat_map(|(name, family)| {
        family.rules.keys().map(move |number| (family, (name.clone(), *number)))
    });
    let (mut proven, mut not_ours, mut open) = (0, 0, 0);
    for (family, rule) in all {
        if proofs.contains_key(&rule) {
            proven += 1;
        } else if family.not_ours.contains_key(&rule.1) {
            not_ours += 1;
        } else {
            open += 1;
        }
    }
    let mut page = format!(
        "# The rules of Services, and the tests that prove them

Made by `just rules` from the names and texts of the tests and from [rules.yaml](rules.yaml). A test proves the rules in
its name, and takes part in proving those that its body names. {proven} rules have tests, {not_ours} are not ours, {open} have no test
yet.
"
    );
    for (name, family) in families {
        let _ = write!(
            page,
            "\n## {name}: {}\n\n| rule | in short | tests |\n| --- | --- | --- |\n",
            family.about
        );
        for (number, title) in &family.rules {
            let tests = match (proofs.get(&(name.clone(), *number)), family.not_ours.get(number)) {
                (Some(tests), _) => listed(tests),
                (None, Some(reason)) => format!("not ours: {reason}"),
                (None, None) => "**no test yet**".into(),
            };
            let differs = family.differs.get(number);
            let differs = differs.map(|why| format!("; here: {why}")).unwrap_or_default();
            let _ = writeln!(page, "| {name}-{number} | {title}{differs} | {tests} |");
        }
    }
    page
}

fn listed(tests: &Tests) -> String {
    let file = |(file, names): (&String, &BTreeSet<String>)| {
        let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
        format!("[{file}](../{file}): {}", names.join(", "))
    };
    tests.iter().map(file).collect::<Vec<_>>().join("<br>")
}
