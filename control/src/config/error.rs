//! What is wrong with a configuration, and where.

use std::collections::HashMap;
use std::fmt;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_saphyr::{Error, Location, Spanned};

/// One mistake; displayed as `file:line:column: message`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The file.
    pub file: String,
    /// Line and column, from 1; `None` when the whole file is meant.
    pub position: Option<(u64, u64)>,
    /// What is wrong, and what is allowed instead.
    pub message: String,
}

/// All mistakes that were found, at least one; displayed one a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl ConfigError {
    pub(super) fn at(file: &str, location: Location, message: String) -> Self {
        let position =
            (location != Location::UNKNOWN).then(|| (location.line(), location.column()));
        Self { file: file.to_owned(), position, message }
    }

    pub(super) fn in_file(file: &str, message: String) -> Self {
        Self { file: file.to_owned(), position: None, message }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file)?;
        if let Some((line, column)) = self.position {
            write!(f, "{line}:{column}:")?;
        }
        write!(f, " {}", self.message)
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            let newline = if index == 0 { "" } else { "\n" };
            write!(f, "{newline}{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}
impl std::error::Error for ConfigErrors {}

impl From<ConfigError> for ConfigErrors {
    fn from(error: ConfigError) -> Self {
        Self(vec![error])
    }
}

/// The error of the YAML reader in our words.
pub(super) fn of_yaml(file: &str, text: &str, error: &Error) -> ConfigError {
    let error = match error.without_snippet() {
        Error::AliasError { error, .. } => error,
        error => error,
    };
    let location = error.location().unwrap_or(Location::UNKNOWN);
    let message = match error {
        Error::SerdeUnknownField { field, expected, .. } => {
            let (hint, expected) = (did_you_mean(field, expected), expected.join(", "));
            format!("unknown key `{field}`{hint}; allowed here: {expected}")
        }
        Error::SerdeUnknownVariant { variant, expected, .. } => {
            let (hint, expected) = (did_you_mean(variant, expected), expected.join(", "));
            format!("`{variant}`: expected one of {expected}{hint}")
        }
        Error::SerdeMissingField { field, .. } => format!("the key `{field}` is missing here"),
        Error::DuplicateMappingKey { key: Some(key), .. } => {
            format!("the key `{key}` is given twice")
        }
        Error::NullIntoString { .. } => "a value is missing here".to_owned(),
        Error::Unexpected { expected: "mapping start", .. } => {
            "expected keys with values here (`key: value`)".to_owned()
        }
        Error::Unexpected { expected: "sequence start", .. } => {
            "expected a list here (`[a, b]`, or lines that begin with `- `)".to_owned()
        }
        Error::Unexpected { expected: "string scalar", .. } => {
            "expected one value here, not a list or keys".to_owned()
        }
        Error::MultipleDocuments { .. } => "expected one YAML document, found another".to_owned(),
        error => {
            let message = error.to_string();
            let message = message.rsplit_once(" at line ").map_or(&*message, |(before, _)| before);
            if let Some(location) = of_services(text, message) {
                return ConfigError::at(file, location, message.to_owned());
            }
            match written(text, location) {
                Some(value) => format!("`{value}`: {message}"),
                None => message.to_owned(),
            }
        }
    };
    ConfigError::at(file, location, message)
}

/// Where a key of `services` is: that section checks itself, and names the key (`services.nodeIPs[0]: …`) but not its
/// place.
fn of_services(text: &str, message: &str) -> Option<Location> {
    #[derive(Deserialize)]
    struct Places {
        services: HashMap<String, Spanned<IgnoredAny>>,
    }
    let key = message.strip_prefix("services.")?.split(['[', ':']).next()?;
    let places: Places = serde_saphyr::from_str(text).ok()?;
    Some(places.services.get(key)?.referenced)
}

/// The single value at a position, if it is short and on one line.
fn written(text: &str, location: Location) -> Option<&str> {
    let span = location.span();
    let start = usize::try_from(span.byte_offset()?).ok()?;
    let end = start + usize::try_from(span.byte_len()?).ok()?;
    let value = text.get(start..end)?;
    let scalar = !value.is_empty() && !value.starts_with(['{', '[']);
    (scalar && value.len() <= 80 && !value.contains('\n')).then_some(value)
}

/// ` (did you mean …?)` when one of `known` resembles what was written.
pub(super) fn did_you_mean(written: &str, known: &[&str]) -> String {
    let lower = written.to_lowercase();
    let distance = |known: &str| strsim::damerau_levenshtein(&lower, &known.to_lowercase());
    let closest = known.iter().map(|known| (distance(known), known)).min();
    match closest {
        // A third of the letters wrong is a slip; more is another word.
        Some((distance, known)) if distance <= written.chars().count().max(3) / 3 => {
            format!(" (did you mean `{known}`?)")
        }
        _ => String::new(),
    }
}
