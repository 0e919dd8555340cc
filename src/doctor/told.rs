//! Findings that are told one by one, and how many more of the same there are.

use super::finding::{Code, Finding, Severity};

/// Findings of one code that are told one by one. Whoever maps ten thousand ports at once needs
/// to read no more.
pub const EACH_MAX: usize = 20;

/// The first findings of each code. Of the others only the number is kept, and they are not even
/// made: of sixty thousand, that took three times as long as to bring them into the kernel.
#[derive(Default)]
pub struct Told {
    findings: Vec<Finding>,
    counts: Vec<(Code, usize)>,
}

impl Told {
    pub fn offer<F: Into<Option<Finding>>>(&mut self, code: Code, make: impl FnOnce() -> F) {
        if self.has_room(code) {
            self.findings.extend(make().into());
        }
    }

    fn has_room(&mut self, code: Code) -> bool {
        let at = self.counts.iter().position(|(of, _)| *of == code).unwrap_or_else(|| {
            self.counts.push((code, 0));
            self.counts.len() - 1
        });
        self.counts[at].1 += 1;
        self.counts[at].1 <= EACH_MAX
    }

    /// With a line for each code of which not all are told.
    pub fn findings(self) -> Vec<Finding> {
        let Self { mut findings, counts } = self;
        for (code, count) in counts.into_iter().filter(|(_, count)| *count > EACH_MAX) {
            let of_code = findings.iter().rfind(|finding| finding.code == code);
            let severity = of_code.map_or(Severity::Warning, |finding| finding.severity);
            let more = count - EACH_MAX;
            let summary = format!("the same of {more} more mappings ({})", code.name());
            findings.push(Finding::new(code, severity, summary));
        }
        findings
    }
}

impl Extend<Finding> for Told {
    fn extend<T: IntoIterator<Item = Finding>>(&mut self, findings: T) {
        for finding in findings {
            self.offer(finding.code, || finding);
        }
    }
}
