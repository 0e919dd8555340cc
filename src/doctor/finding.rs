//! One thing that is wrong, or worth knowing, and what to do about it.

use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

pub use crate::formats::code::Code;
use crate::formats::diagnostic::Diagnostic;
use crate::mapping::{Protocol, Service};

/// How much it matters; the most serious first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Some client that the mapping is meant for is not served.
    Error,
    /// Works today; will not, or may not.
    Warning,
    /// Worth knowing.
    Note,
}

/// What to do: in words, and as a command where there is one that can be typed as it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Remedy {
    pub text: String,
    pub command: Option<String>,
}

/// One thing that is wrong, or worth knowing.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Finding {
    pub code: Code,
    pub severity: Severity,
    /// The mapped port; the first of a range.
    pub port: Option<u16>,
    #[serde(serialize_with = "name")]
    pub protocol: Option<Protocol>,
    /// One line, lower case, no full stop.
    pub summary: String,
    /// Why it matters.
    pub detail: String,
    pub remedy: Vec<Remedy>,
    /// What was seen.
    pub evidence: Map<String, Value>,
}

fn name<S: Serializer>(protocol: &Option<Protocol>, serializer: S) -> Result<S::Ok, S::Error> {
    protocol.map(Protocol::name).serialize(serializer)
}

/// The evidence that names listeners.
const LISTENERS: &str = "listeners";

impl Finding {
    pub fn new(code: Code, severity: Severity, summary: impl Into<String>) -> Self {
        Self {
            code,
            severity,
            port: None,
            protocol: None,
            summary: summary.into(),
            detail: String::new(),
            remedy: Vec::new(),
            evidence: Map::new(),
        }
    }

    pub fn of(mut self, service: Service) -> Self {
        self.port = Some(service.port.get());
        self.protocol = Some(service.protocol);
        self
    }

    pub fn because(mut self, detail: impl Into<String>) -> Self {
        self.detail = detail.into();
        self
    }

    /// Something that can be done, in words.
    pub fn advice(mut self, text: impl Into<String>) -> Self {
        self.remedy.push(Remedy { text: text.into(), command: None });
        self
    }

    /// Something that can be typed.
    pub fn command(mut self, text: impl Into<String>, command: impl Into<String>) -> Self {
        self.remedy.push(Remedy { text: text.into(), command: Some(command.into()) });
        self
    }

    pub fn evidence(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.evidence.insert(key.to_owned(), value.into());
        self
    }

    pub fn listeners(self, holders: &[super::Holder]) -> Self {
        let holders: Vec<_> = holders.iter().map(super::Holder::to_json).collect();
        self.evidence(LISTENERS, holders)
    }

    /// Whether it is better told with the names of programs.
    pub fn names_listeners(&self) -> bool {
        self.evidence.contains_key(LISTENERS)
    }

    /// As a warning of a command whose business is another one.
    pub fn as_warning(&self) -> Diagnostic {
        let remedy: Vec<_> = self.remedy.iter().map(Remedy::in_a_line).collect();
        let message = match self.detail.as_str() {
            "" => self.summary.clone(),
            detail => format!("{}: {detail}", self.summary),
        };
        let mut diagnostic = match self.severity {
            Severity::Note => Diagnostic::note(None, message),
            Severity::Error | Severity::Warning => Diagnostic::warning(None, message),
        };
        diagnostic.code = Some(self.code);
        diagnostic.help = (!remedy.is_empty()).then(|| remedy.join("; or "));
        diagnostic
    }
}

impl Remedy {
    pub fn in_a_line(&self) -> String {
        match &self.command {
            Some(command) => format!("{}: `{command}`", self.text),
            None => self.text.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_is_one_line_and_its_remedies() {
        let finding = Finding::new(Code::NobodyListens, Severity::Error, "nobody is there")
            .because("clients are refused")
            .advice("start it")
            .command("look", "ss -ltn");
        let warning = finding.as_warning();
        assert_eq!(warning.message, "nobody is there: clients are refused");
        assert_eq!(warning.help.as_deref(), Some("start it; or look: `ss -ltn`"));
        assert_eq!(serde_json::to_value(&warning).unwrap()["code"], "nobody-listens");
    }
}
