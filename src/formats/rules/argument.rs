//! A mapping on the command line, in the words of the file: `80:3000`, `53/udp:5353`,
//! `6000-6063:16000-16063`.

use std::sync::Arc;

use crate::formats::diagnostic::{Diagnostic, excerpt, quoted};
use crate::mapping::{Direct, PortRange, Protocol, Selector};

use super::entry::Entry;
use super::mistakes::{self, Form};
use super::ports::{self, Protocols};
use super::report::{Complaint, Report, Spot};
use super::source::{Names, Services, Source};
use super::value;

/// What an argument is, where a file or a mapping can be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// `PORT[-PORT][/PROTOCOL]:PORT[-PORT]`, also if there is a file of that name.
    Mapping,
    /// Nearly one, unless there is a file of that name.
    Nearly,
    Path,
}

/// Decides by the text alone.
pub fn shape(text: &str) -> Shape {
    if text.starts_with(['.', '/', '~', '-']) {
        return Shape::Path;
    }
    if text.split_once(':').is_some_and(|(left, right)| is_service(left) && is_target(right)) {
        return Shape::Mapping;
    }
    let is_yaml = text.ends_with(".yaml") || text.ends_with(".yml");
    let has_sign = [":", "->", "=>", "→"].iter().any(|sign| text.contains(sign));
    let begins_with_port = text.starts_with(|c: char| c.is_ascii_digit());
    match !is_yaml && (has_sign || begins_with_port) {
        true => Shape::Nearly,
        false => Shape::Path,
    }
}

/// The ports of a mapping that leaves its target open: `80`, `53/udp`, `http`. `None` for anything
/// else.
pub fn without_target(text: &str, names: Names) -> Option<PortRange> {
    let service = value::service(text, Protocols::TCP, names);
    service.ok().filter(|_| !text.contains(':')).map(|(ports, _)| ports)
}

fn is_service(text: &str) -> bool {
    let (ports, protocols) = text.split_once('/').unwrap_or((text, "tcp"));
    let is_name = |c: char| c.is_ascii_alphanumeric() || "-_.+".contains(c);
    let is_number = ports.starts_with(|c: char| c.is_ascii_digit());
    // What has a number before the slash is no path, even with a protocol that does not exist.
    let is_protocol = || protocols.split('+').all(|name| name.parse::<Protocol>().is_ok());
    ports.starts_with(|c: char| c.is_ascii_alphanumeric())
        && ports.chars().all(is_name)
        && (is_number || is_protocol())
}

fn is_target(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_digit())
        && text.chars().all(|c| c.is_ascii_digit() || c == '-')
}

/// Ports of this host, where not a mapping but what is mapped is named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedPorts {
    pub ports: PortRange,
    /// `None` if it is not said.
    pub protocols: Option<Vec<Protocol>>,
}

/// `80`, `53/udp`, `514/tcp+udp`, `6000-6063`, `http`: the left side of a mapping.
pub fn named_ports(text: &str, services: &Services) -> Result<NamedPorts, Diagnostic> {
    value::service(text, Protocols::TCP, Names { services, ..Names::NONE })
        .map(|(ports, protocols)| NamedPorts {
            ports,
            protocols: protocols.map(|protocols| protocols.iter().collect()),
        })
        .map_err(|complaint| {
            let mut report = Report::default();
            report.error(Spot::default(), complaint);
            let source = Source::argument(1, text);
            report.finish(&[source]).swap_remove(0)
        })
}

/// Adds the entry of an argument to `entries`, or its problems to `report`.
pub(super) fn read(
    text: &str,
    source: u32,
    names: Names,
    entries: &mut Vec<Entry>,
    report: &mut Report,
) {
    let characters = |text: &str| text.chars().count() as u32;
    let whole = Spot { source, line: 1, column: 0, length: characters(text) };
    let Some((left, right)) = text.split_once(':').filter(|_| shape(text) == Shape::Mapping) else {
        return report.error(whole, not_a_mapping(text));
    };
    let spot = Spot { length: characters(left), ..whole };
    let to_spot = Spot { column: spot.length + 1, length: characters(right), ..whole };
    let service = value::service(left, Protocols::TCP, names);
    let target = value::target(right);
    let widths = match (&service, &target) {
        (Ok((ports, _)), Ok(to)) => value::check_widths(*ports, *to),
        _ => Ok(()),
    };
    match (service, target, widths) {
        (Ok((ports, protocols)), Ok(to), Ok(())) => entries.push(Entry {
            ports,
            protocols: protocols.unwrap_or(Protocols::TCP),
            to,
            selectors: Arc::new([Selector::ANYONE]),
            comment: None,
            user: None,
            direct: Direct::Allow,
            spot,
            to_spot,
        }),
        (service, target, widths) => {
            let left_error = service.err().map(|complaint| or_a_file(complaint, left, text));
            let right_errors = [target.err(), widths.err()].into_iter().flatten();
            left_error.into_iter().for_each(|complaint| report.error(spot, complaint));
            right_errors.for_each(|complaint| report.error(to_spot, complaint));
        }
    }
}

/// Names what is to be typed if a file was meant: `web:1`.
fn or_a_file(complaint: Complaint, left: &str, text: &str) -> Complaint {
    match left.starts_with(|c: char| c.is_ascii_digit()) {
        true => complaint,
        false => complaint.or(&format!("a file of this name is `./{}`", excerpt(text))),
    }
}

fn not_a_mapping(text: &str) -> Complaint {
    const FORM: &str = "a mapping is `PORT:TARGET`, as in `80:3000` or `53/udp:5353`";
    let complaint = Complaint::new(format!("{} is neither a mapping nor a file", quoted(text)));
    if let Some(words) = mistakes::several(text, |piece| shape(piece) == Shape::Mapping) {
        return complaint.help(format!("write each mapping as a word of its own: `{words}`"));
    }
    if let Some(meant) = mistakes::entry(text, Form::Argument) {
        return complaint.help(format!("write `{meant}`"));
    }
    if mistakes::entry(text, Form::Line).is_some() {
        return complaint
            .help("a mapping has no address here: write a file, and select it by `addresses`");
    }
    let port = text.trim_end_matches([':', ' ']);
    if let Ok(ports) = ports::ports(port.split('/').next().unwrap_or_default()) {
        let message = format!("{} has no target", quoted(text));
        // An example that would be refused, or map a port to itself, is none.
        let help = match ports.span() == 0 && port != "3000" {
            true => format!("write it after a colon: `{port}:3000`"),
            false => FORM.to_owned(),
        };
        return Complaint::new(message).help(help);
    }
    if let Some(target) = text.strip_prefix(':').filter(|target| is_target(target)) {
        let message = format!("{} has no port before the colon", quoted(text));
        return Complaint::new(message).help(format!("write it there: `80:{target}`"));
    }
    match (text.split_once(':'), text.rsplit_once(':')) {
        (Some((left, right)), _) if is_service(left) => {
            complaint.help(mistakes::right_of(Some(left), right))
        }
        (_, Some((left, right))) if is_target(right) => complaint.help(mistakes::left(left)),
        _ => complaint.help(FORM),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_may_be_left_open() {
        let http =
            |name: &str, _| (name == "http").then(|| crate::mapping::Port::new(80)).flatten();
        let span = |text| {
            without_target(text, Names { services: &http, ..Names::NONE }).map(PortRange::span)
        };
        for text in ["80", "80/udp", "514/tcp+udp", "http", "http/tcp"] {
            assert_eq!(span(text), Some(0), "{text}");
        }
        assert_eq!(span("6000-6003"), Some(3));
        for text in ["80:3000", "80:", ":80", "npm", "0", "70000", "80/tpc", "", "rules.yaml"] {
            assert_eq!(span(text), None, "{text}");
        }
    }

    #[test]
    fn what_looks_like_a_mapping_is_one() {
        for text in [
            "80:3000",
            "53/udp:5353",
            "514/tcp+udp:5514",
            "6000-6063:16000-16063",
            "http-alt:3001",
            "http/tcp:3000",
            "70000:1",
            "80/tpc:3000",
            "80:3000-",
        ] {
            assert_eq!(shape(text), Shape::Mapping, "{text}");
        }
        for text in [
            "80 -> 3000",
            "80->3000",
            "80:",
            ":3000",
            "80",
            "80: 3000",
            "0.0.0.0:80:3000",
            "80:3000/tcp",
            "tcp/80:3000",
            "80:http://localhost:3000",
            "web:prod",
            "80,443:3000",
        ] {
            assert_eq!(shape(text), Shape::Nearly, "{text}");
        }
        for text in [
            "./80:3000",
            "/etc/80:3000",
            "../80:3000",
            "-",
            "rules.yaml",
            "80.yaml",
            "a:80.yaml",
            "web",
            "rules/web",
            "~/80:3000",
        ] {
            assert_eq!(shape(text), Shape::Path, "{text}");
        }
    }
}
