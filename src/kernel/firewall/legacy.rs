//! Legacy iptables: rules that the kernel keeps beside nftables. It tells the names of their tables
//! in /proc; the rules themselves are told by iptables' own program, where it is installed.

use std::fs;
use std::io;
use std::time::Duration;

use crate::firewall::{Family, Table, Unread, legacy};
use crate::host::programs::{self, Limits};

struct Kind {
    family: Family,
    /// Of the calling thread's network namespace.
    names: &'static str,
    /// By absolute path: root's PATH is not trusted.
    programs: [&'static str; 4],
}

const KINDS: [Kind; 2] = [
    Kind {
        family: Family::Ip,
        names: "/proc/thread-self/net/ip_tables_names",
        programs: [
            "/usr/sbin/iptables-legacy-save",
            "/sbin/iptables-legacy-save",
            "/usr/bin/iptables-legacy-save",
            "/bin/iptables-legacy-save",
        ],
    },
    Kind {
        family: Family::Ip6,
        names: "/proc/thread-self/net/ip6_tables_names",
        programs: [
            "/usr/sbin/ip6tables-legacy-save",
            "/sbin/ip6tables-legacy-save",
            "/usr/bin/ip6tables-legacy-save",
            "/bin/ip6tables-legacy-save",
        ],
    },
];

/// A rule has some 100 bytes, and legacy iptables gets slow long before this.
const LIMITS: Limits = Limits { time: Duration::from_secs(10), bytes: 64 << 20 };

/// The tables of legacy iptables, and those that are there and could not be read.
pub fn read() -> (Vec<Table>, Vec<Unread>) {
    let (mut tables, mut unread) = (Vec::new(), Vec::new());
    for kind in &KINDS {
        read_kind(kind, &mut tables, &mut unread);
    }
    (tables, unread)
}

fn read_kind(kind: &Kind, tables: &mut Vec<Table>, unread: &mut Vec<Unread>) {
    let mut note = |table: &str, why: String| {
        unread.push(Unread { family: kind.family, table: table.to_owned(), why });
    };
    let names = match fs::read_to_string(kind.names) {
        Ok(names) => names,
        // Without the module there is no table.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return,
        Err(error) => return note("unknown", format!("read {}: {error}", kind.names)),
    };
    // To ask for what is not there would make it: the program has the kernel load modules.
    if names.trim().is_empty() {
        return;
    }
    match saved(kind) {
        Ok(found) => {
            let is_told = |name: &&str| found.iter().any(|table| table.name == **name);
            for name in names.lines().filter(|name| !is_told(name)) {
                note(name, format!("{} does not tell it", kind.programs[0]));
            }
            tables.extend(found);
        }
        Err(why) => names.lines().for_each(|name| note(name, why.clone())),
    }
}

fn saved(kind: &Kind) -> Result<Vec<Table>, String> {
    let text = programs::output(&kind.programs, LIMITS)?;
    let what = || format!("what {} prints is not understood", kind.programs[0]);
    let text = String::from_utf8(text).map_err(|error| format!("{}: {error}", what()))?;
    legacy::read(&text, kind.family).map_err(|problem| format!("{}: {problem}", what()))
}
