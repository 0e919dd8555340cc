//! `portmap doctor`: on an ordinary host, and on a large one. Every target has its listener, and the
//! rules of others let everybody in: all is looked at, and nothing is found that ends it early.

use std::fmt::Write;
use std::net::{Ipv6Addr, TcpListener, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::applies::{Applies, apply, command, nft};
use crate::inputs::{Mappings, TEN, target};
use crate::limits::Check;
use crate::measure::{median, run};
use crate::namespace;
use crate::report::{Report, Table, time};

struct Host {
    name: &'static str,
    what: &'static str,
    mappings: Mappings,
    /// Sockets that wait for clients, half of them TCP's.
    sockets: u16,
    /// Rules of others.
    rules: usize,
    /// In milliseconds.
    limit: f64,
}

fn hosts() -> [Host; 2] {
    [
        Host {
            name: "10 mappings, 20 sockets, 50 rules",
            what: "doctor on an ordinary host",
            mappings: Mappings::new(TEN),
            sockets: 20,
            rules: 50,
            limit: 100.0,
        },
        Host {
            name: "10,000 mappings, 10,000 sockets, 5,000 rules",
            what: "doctor with 10,000 mappings, 10,000 sockets and 5,000 rules of others",
            mappings: Mappings::new(1..=10_000),
            sockets: 10_000,
            rules: 5000,
            limit: 1000.0,
        },
    ]
}

pub fn measure(
    applies: &Applies,
    portmap: &Path,
    dir: &Path,
    rounds: usize,
    report: &mut Report,
) -> Result<()> {
    // Sockets are files of this process.
    let files = Rlimit { current: Some(20_000), ..getrlimit(Resource::Nofile) };
    setrlimit(Resource::Nofile, files).context("open 10,000 sockets")?;
    let mut rows = Vec::new();
    for host in hosts() {
        let (server, _client) = namespace::link()?;
        server.enter()?;
        let _sockets = listeners(&host)?;
        let rules = dir.join("doctor.nft");
        std::fs::write(&rules, firewall(host.rules))?;
        apply(&mut nft(&rules))?;
        let yaml = dir.join("doctor.yaml");
        host.mappings.yaml(&yaml)?;
        let state = applies.state();
        apply(&mut command(portmap, &yaml, &state))?;
        let doctor = || {
            let mut doctor = Command::new(portmap);
            doctor.arg("doctor").arg("--state-dir").arg(&state);
            run(&mut doctor)
        };
        doctor()?;
        let samples = (0..rounds).map(|_| doctor()).collect::<Result<Vec<_>>>()?;
        let wall: Duration = median(samples.iter().map(|sample| sample.wall).collect());
        let peak = samples.iter().map(|sample| sample.peak).max().unwrap_or(0);
        rows.push(vec![
            host.name.to_owned(),
            time(wall),
            format!("{:.1} MiB", peak as f64 / 1024.0),
        ]);
        report.checks.push(Check {
            what: host.what,
            value: wall.as_secs_f64() * 1e3,
            limit: host.limit,
            unit: " ms",
            noise: None,
        });
    }
    let text = format!(
        "What doctor takes where nothing is wrong, the medians of {rounds} rounds. Half of the \
         sockets are of TCP; the rules are of one input chain, each with a network and a port."
    );
    let head = vec!["host", "median", "peak memory"];
    report.section("Why does it not answer?", &text, &Table { head, rows });
    Ok(())
}

/// Listeners on the targets, for as long as they are kept.
fn listeners(host: &Host) -> Result<(Vec<TcpListener>, Vec<UdpSocket>)> {
    let (mut tcp, mut udp) = (Vec::new(), Vec::new());
    for port in (*host.mappings.ports.start()..).take(usize::from(host.sockets / 2)) {
        let to = (Ipv6Addr::UNSPECIFIED, target(port));
        tcp.push(TcpListener::bind(to).with_context(|| format!("listen on {to:?}"))?);
        udp.push(UdpSocket::bind(to).with_context(|| format!("listen on {to:?}"))?);
    }
    Ok((tcp, udp))
}

fn firewall(rules: usize) -> String {
    let mut text =
        "table inet fw {\n\tchain input {\n\t\ttype filter hook input priority 0\n".to_owned();
    for n in 0..rules {
        let (a, b) = (n / 256, n % 256);
        let _ = writeln!(text, "\t\tip saddr 10.{a}.{b}.0/24 tcp dport {} accept", 1 + n);
    }
    text + "\t}\n}\n"
}
