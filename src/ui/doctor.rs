//! What is wrong, and which paths lead to an answer: for people, or as one document.

use anstyle::AnsiColor;
use anyhow::Result;
use ipnet::IpNet;
use serde::Serialize;

use super::escape::visible;
use super::{JSON_VERSION, Table, Ui};
use crate::doctor::examine::{Answer, Examination, Path};
use crate::doctor::{Code, Finding, From, Severity};
use crate::mapping::Port;

#[derive(Serialize)]
struct Document<'a> {
    version: u32,
    healthy: bool,
    findings: &'a [Finding],
    paths: &'a [Path],
    unseen: &'a [String],
}

impl Ui {
    /// `asked`: whether the user has named ports, and so wants to see their paths in any case.
    pub fn doctor(&self, examination: &Examination, asked: bool) -> Result<()> {
        let Examination { findings, paths, unseen, .. } = examination;
        if self.is_json() {
            let healthy = examination.is_healthy();
            return self.print_json(&Document {
                version: JSON_VERSION,
                healthy,
                findings,
                paths,
                unseen,
            });
        }
        for finding in findings {
            self.print(self.finding(finding))?;
        }
        let shown: Vec<_> =
            paths.iter().filter(|path| asked || path.answer != Answer::Yes).collect();
        if !shown.is_empty() {
            self.table(&table(&shown))?;
        }
        for what in unseen {
            self.note(format_args!("not seen: {what}"));
        }
        if findings.is_empty() {
            self.say(healthy(examination))?;
        }
        Ok(())
    }

    /// What was found, why it matters, and what to type.
    fn finding(&self, finding: &Finding) -> String {
        let (label, color) = match finding.severity {
            Severity::Error => ("error", AnsiColor::Red),
            Severity::Warning => ("warning", AnsiColor::Yellow),
            Severity::Note => ("note", AnsiColor::Cyan),
        };
        let label = self.paint(color, format_args!("{label}:"));
        let code = finding.code.name();
        let mut text = format!("{label} {} [{code}]\n", visible(&finding.summary));
        if !finding.detail.is_empty() {
            text.push_str(&format!("  {}\n", visible(&finding.detail)));
        }
        for remedy in &finding.remedy {
            match &remedy.command {
                Some(command) => {
                    text.push_str(&format!("  - {}:\n", visible(&remedy.text)));
                    text.push_str(&format!("      {}\n", visible(command)));
                }
                None => text.push_str(&format!("  - {}\n", visible(&remedy.text))),
            }
        }
        text.push('\n');
        text
    }
}

fn healthy(examination: &Examination) -> String {
    match (examination.mappings, examination.unseen.is_empty()) {
        (0, true) => "nothing is mapped, and nothing is wrong".to_owned(),
        (0, false) => "nothing is known to be mapped".to_owned(),
        (1, _) => "1 mapping, nothing found that is wrong".to_owned(),
        (n, _) => format!("{n} mappings, nothing found that is wrong"),
    }
}

/// The addresses of one port that have the same answer for the same reason are one row; neighbouring
/// ports that fare alike are one port.
fn table(paths: &[&Path]) -> Table {
    let mut table = Table::new(&["PORT", "FROM", "TO ADDRESS", "ANSWER"]);
    for (last, paths) in runs(paths) {
        for rows in paths.chunk_by(|a, b| (a.from, end(a)) == (b.from, end(b))) {
            let addresses: Vec<_> = rows.iter().map(|path| path.address.to_string()).collect();
            let Path { port, protocol, from, interface, source, answer, because, .. } = rows[0];
            let from = match from {
                From::Outside => "outside",
                From::Here => "here",
            };
            let source = source.map(|net| net.to_string());
            let from: Vec<_> = [Some(from), interface.as_deref(), source.as_deref()]
                .into_iter()
                .flatten()
                .collect();
            let from = visible(&from.join(", "));
            let port = match last == *port {
                true => format!("{port}/{protocol}"),
                false => format!("{port}-{last}/{protocol}"),
            };
            table.row(vec![port, from, addresses.join(" "), answer.in_words(*because)]);
        }
    }
    table
}

/// What a path ends in, wherever it goes to.
fn end(path: &Path) -> (Answer, Option<Code>, &Option<String>, Option<IpNet>) {
    (path.answer, path.because, &path.interface, path.source)
}

/// The paths of each port that does not fare as the one before it, and the last port that does.
fn runs<'p>(paths: &'p [&'p Path]) -> Vec<(Port, &'p [&'p Path])> {
    let mut runs: Vec<(Port, &[&Path])> = Vec::new();
    for of_port in paths.chunk_by(|a, b| (a.port, a.protocol) == (b.port, b.protocol)) {
        let port = of_port[0].port;
        match runs.last_mut() {
            Some((last, run)) if last.further(1) == Some(port) && is_alike(run, of_port) => {
                *last = port;
            }
            _ => runs.push((port, of_port)),
        }
    }
    runs
}

fn is_alike(one: &[&Path], other: &[&Path]) -> bool {
    let same = |a: &Path, b: &Path| {
        (a.protocol, a.from, a.address, end(a)) == (b.protocol, b.from, b.address, end(b))
    };
    one.len() == other.len() && one.iter().zip(other).all(|(a, b)| same(a, b))
}
