//! Legacy iptables: rules that the kernel keeps beside nftables. It tells the names of their tables
//! in /proc; the rules themselves are told by iptables' own program, where it is installed.
//!
//! A table without rules and with the policy `ACCEPT` does nothing. Any other counts as unread.

use std::fs;
use std::io;
use std::process::Command;

use crate::firewall::{Family, Unread};

struct Kind {
    family: Family,
    /// Of the calling thread's network namespace.
    names: &'static str,
    /// By absolute path: root's PATH is not trusted.
    programs: [&'static str; 2],
}

const KINDS: [Kind; 2] = [
    Kind {
        family: Family::Ip,
        names: "/proc/thread-self/net/ip_tables_names",
        programs: ["/usr/sbin/iptables-legacy-save", "/sbin/iptables-legacy-save"],
    },
    Kind {
        family: Family::Ip6,
        names: "/proc/thread-self/net/ip6_tables_names",
        programs: ["/usr/sbin/ip6tables-legacy-save", "/sbin/ip6tables-legacy-save"],
    },
];

/// The tables of legacy iptables whose effect cannot be told.
pub fn unread() -> Vec<Unread> {
    KINDS.iter().flat_map(unread_of).collect()
}

fn unread_of(kind: &Kind) -> Vec<Unread> {
    let unread = |table: &str, why: String| {
        vec![Unread { family: kind.family, table: table.to_owned(), why }]
    };
    let names = match fs::read_to_string(kind.names) {
        Ok(names) => names,
        // Without the module there is no table.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Vec::new(),
        Err(error) => return unread("unknown", format!("read {}: {error}", kind.names)),
    };
    names
        .lines()
        .flat_map(|table| match save(kind, table) {
            Ok(text) if is_harmless(&text) => Vec::new(),
            Ok(_) => unread(table, "its rules are not evaluated".to_owned()),
            Err(why) => unread(table, why),
        })
        .collect()
}

fn save(kind: &Kind, table: &str) -> Result<String, String> {
    let missing = || format!("{} is not installed", kind.programs[0]);
    for program in kind.programs {
        let output = Command::new(program).args(["-t", table]).env_clear().output();
        match output {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(format!("run {program}: {error}")),
            Ok(output) if output.status.success() => {
                return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
            }
            Ok(output) => return Err(format!("{program} failed: {}", output.status)),
        }
    }
    Err(missing())
}

/// Whether a table as iptables-save prints it has no rules, and lets everything pass: comments,
/// `*table`, `:CHAIN ACCEPT [0:0]`, `COMMIT`, and nothing else.
fn is_harmless(text: &str) -> bool {
    let harmless = |line: &str| match line.split_at_checked(1) {
        Some(("#" | "*", _)) | None => true,
        Some((":", rest)) => {
            let policy = rest.split_whitespace().nth(1);
            matches!(policy, Some("ACCEPT" | "-"))
        }
        _ => line == "COMMIT",
    };
    text.lines().all(harmless) && text.lines().any(|line| line == "COMMIT")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_lets_everything_pass_is_harmless() {
        let table = |line: &str| format!("# by\n*filter\n:INPUT ACCEPT [1:2]\n{line}\nCOMMIT\n");
        assert!(is_harmless(&table(":mine - [0:0]")));
        for line in [":FORWARD DROP [0:0]", "-A INPUT -j ACCEPT", "[0:0] -A INPUT -j DROP", "what"]
        {
            assert!(!is_harmless(&table(line)), "{line}");
        }
        assert!(!is_harmless(""));
    }
}
