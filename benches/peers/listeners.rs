//! The look at this host before a change: who listens where, and which programs these are.
//!
//! Each change is between two targets, so that there is always one to look at. What the look takes
//! is what `portmap --verbose` says of it: a few hundredths of the whole command would be lost in the
//! noise of starting and of writing to the disk. `portmap --version`, in turns with it, tells how
//! noisy the machine is.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Resource, getrlimit, setrlimit};

use crate::applies::Applies;
use crate::limits::{Check, Noise};
use crate::measure::{median, run};
use crate::namespace::Namespace;
use crate::noise::{Effort, Patience, Twins, paired_ratio};
use crate::report::{Report, Table, time};

struct Case {
    name: &'static str,
    /// What is said of it with the limit.
    what: &'static str,
    /// Other sockets that wait for clients, in one process.
    sockets: u16,
    /// Whether there is something to tell, which names the program that listens.
    names: bool,
    /// In milliseconds.
    limit: f64,
}

const CASES: [Case; 4] = [
    Case {
        name: "no other sockets",
        what: "look at listeners",
        sockets: 0,
        names: false,
        limit: 2.0,
    },
    Case {
        name: "no other sockets, a program is named",
        what: "look at listeners, name one",
        sockets: 0,
        names: true,
        limit: 2.0,
    },
    Case {
        name: "10,000 other sockets",
        what: "look at 10,000 listeners",
        sockets: 10_000,
        names: false,
        limit: 50.0,
    },
    Case {
        name: "10,000 other sockets, a program is named",
        what: "look at 10,000 listeners, name one",
        sockets: 10_000,
        names: true,
        limit: 50.0,
    },
];

/// The targets of the two mappings that change places.
const TARGETS: [u16; 2] = [3001, 3002];

/// One portmap on the host of a case.
struct Subject<'a> {
    case: &'static Case,
    program: &'a Path,
    is_before: bool,
    state: PathBuf,
    looks: Vec<Duration>,
    walls: Vec<Duration>,
}

/// A process with the sockets of a case. Not this one, whose own limit of open files is for all.
struct Holder(Child);

impl Holder {
    fn start(case: &Case) -> Result<Holder> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["--bench", HOLD, &case.sockets.to_string(), &case.names.to_string()]);
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut holder = Holder(child);
        let mut ready = [0];
        let stdout = holder.0.stdout.as_mut().context("no pipe")?;
        stdout.read_exact(&mut ready).context("the sockets could not be opened")?;
        Ok(holder)
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The argument that makes this program a [`Holder`].
pub const HOLD: &str = "--hold";

/// Opens the sockets, says so, and keeps them until the input ends.
pub fn hold(mut arguments: impl Iterator<Item = String>) -> Result<()> {
    let sockets: u16 = arguments.next().context("how many sockets?")?.parse()?;
    let names: bool = arguments.next().context("to be named?")?.parse()?;
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit)?;
    let half = 10_000..10_000 + sockets / 2;
    let tcp = half.clone().map(|port| TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)));
    let udp = half.map(|port| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)));
    let _others = (tcp.collect::<Result<Vec<_>, _>>()?, udp.collect::<Result<Vec<_>, _>>()?);
    // The last to be opened, and so the last to be found. On all addresses there is nothing to tell
    // of; without IPv6 there is.
    let target = |port| match names {
        true => TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)),
        false => TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)),
    };
    let _targets = TARGETS.map(target).into_iter().collect::<Result<Vec<_>, _>>()?;
    std::io::stdout().write_all(b"!")?;
    std::io::stdout().flush()?;
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

pub fn measure(
    applies: &Applies,
    portmap: &Path,
    effort: &Effort,
    report: &mut Report,
) -> Result<()> {
    let mut versions = [Vec::new(), Vec::new()];
    let mut subjects = Vec::new();
    // One case after the other: whoever looks for a program meets the descriptors of all processes,
    // and so those of other cases.
    for case in &CASES {
        let programs = [Some(portmap), applies.before].into_iter().flatten();
        let subject = |(n, program)| Subject {
            case,
            program,
            is_before: n > 0,
            state: applies.state(),
            looks: Vec::new(),
            walls: Vec::new(),
        };
        let mut these: Vec<_> = programs.enumerate().map(subject).collect();
        measure_case(case, &mut these, &mut versions, effort)?;
        subjects.extend(these);
    }
    tell(&subjects, &versions, report);
    Ok(())
}

fn measure_case(
    case: &Case,
    subjects: &mut [Subject],
    versions: &mut [Vec<Duration>; 2],
    effort: &Effort,
) -> Result<()> {
    let _host = Namespace::enter_new()?;
    let _sockets = Holder::start(case)?;
    let portmap = subjects[0].program;
    let version = || {
        // What the kernel frees after an apply is not to disturb what follows.
        sleep(Duration::from_millis(5));
        anyhow::Ok(run(Command::new(portmap).arg("--version"))?.wall)
    };
    let mut patience = Patience::of(effort.patience);
    for round in 0.. {
        let are_alike = || Twins::of(&versions[0], &versions[1]).agree();
        if round > effort.rounds && patience.is_over(are_alike()) {
            break;
        }
        let one_alone = subjects.len() == 1;
        for (n, subject) in subjects.iter_mut().enumerate() {
            // Each changes what the other has made, or it itself before.
            subject.measure(TARGETS[if one_alone { round % 2 } else { n }])?;
        }
        // By turns one twin's and the other's: whatever comes just after an apply takes longer.
        let version = version()?;
        match round {
            // It warms up.
            0 => subjects.iter_mut().for_each(Subject::forget),
            _ => versions[round % 2].push(version),
        }
    }
    Ok(())
}

impl Subject<'_> {
    fn measure(&mut self, target: u16) -> Result<()> {
        let mut command = Command::new(self.program);
        command.args(["apply", "--verbose", "--state-dir"]).arg(&self.state);
        command.arg(format!("80:{target}"));
        let start = Instant::now();
        let output = command.output().with_context(|| format!("cannot start {command:?}"))?;
        self.walls.push(start.elapsed());
        let said = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() || said.contains("listens on port") != self.case.names {
            bail!("{command:?}: expected other words: {said}");
        }
        let look = said.lines().find_map(|line| line.strip_prefix("look at this host: "));
        let look = look.and_then(|time| time.strip_suffix(" ms")?.parse::<f64>().ok());
        let look = look.with_context(|| format!("{command:?} does not say how long: {said}"))?;
        self.looks.push(Duration::from_secs_f64(look / 1e3));
        Ok(())
    }

    fn forget(&mut self) {
        self.looks.clear();
        self.walls.clear();
    }
}

fn tell(subjects: &[Subject], versions: &[Vec<Duration>; 2], report: &mut Report) {
    let twins = Twins::of(&versions[0], &versions[1]);
    let mut rows = Vec::new();
    for subject in subjects {
        let Case { name, what, limit, .. } = *subject.case;
        let look = median(subject.looks.clone());
        let which = if subject.is_before { "before: " } else { "" };
        let wall = time(median(subject.walls.clone()));
        rows.push(vec![format!("{which}{name}"), time(look), wall]);
        if !subject.is_before {
            let value = look.as_secs_f64() * 1e3;
            let noise = Some(Noise { twins, of: value });
            report.checks.push(Check { what, value, limit, unit: " ms", noise });
        }
    }
    for before in subjects.iter().filter(|subject| subject.is_before) {
        let now = subjects.iter().find(|s| !s.is_before && s.case.name == before.case.name);
        let now = now.expect("each case is measured with both");
        let what = format!("look at this host: {}", before.case.name);
        let ratio = paired_ratio(&now.looks, &before.looks);
        report.compare(&what, median(before.looks.clone()), median(now.looks.clone()), ratio);
    }
    report.section(
        "The look at this host before a change",
        &format!(
            "One mapping is changed, in {} rounds for each case. The look is what `portmap apply --verbose` says \
             of it: the listeners of TCP and UDP, the interfaces, and where there is something to \
             tell, the programs that it is about, which are found among the descriptors of all \
             processes. The other sockets belong to one process, which has opened the one that is \
             looked for last.",
            subjects[0].looks.len()
        ),
        &Table { head: vec!["portmap apply", "the look", "the whole command"], rows },
    );
}
