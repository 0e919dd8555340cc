//! The look at this host before a change: who listens where, and which programs these are.
//!
//! Each change is between two targets, so that there is always one to look at. What the look takes
//! is what `portmap --verbose` says of it: a few hundredths of the whole command would be lost in the
//! noise of starting and of writing to the disk. `portmap --version`, in turns with it, tells how
//! noisy the machine is.

use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Resource, getrlimit, setrlimit};

use crate::applies::Applies;
use crate::limits::{Check, Noise};
use crate::measure::{median, run};
use crate::namespace::Namespace;
use crate::noise::{Twins, paired_ratio};
use crate::report::{Report, Table, time};

pub struct Effort {
    pub rounds: usize,
    /// How much longer to go on while two identical contenders are not alike.
    pub patience: Duration,
}

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

/// A host with its sockets, and one portmap there.
struct Subject<'a> {
    case: &'static Case,
    program: &'a Path,
    is_before: bool,
    state: PathBuf,
    host: Namespace,
    _others: (Vec<TcpListener>, Vec<UdpSocket>),
    _targets: Vec<TcpListener>,
    looks: Vec<Duration>,
    walls: Vec<Duration>,
}

pub fn measure(
    applies: &Applies,
    portmap: &Path,
    effort: &Effort,
    report: &mut Report,
) -> Result<()> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).context("open 20,000 sockets")?;
    let mut subjects = Vec::new();
    for case in &CASES {
        subjects.push(Subject::new(case, portmap, false, applies.state())?);
        if let Some(before) = applies.before {
            subjects.push(Subject::new(case, before, true, applies.state())?);
        }
    }
    let mut versions = [Vec::new(), Vec::new()];
    let mut deadline = None;
    for round in 0.. {
        if round > effort.rounds {
            let deadline = *deadline.get_or_insert_with(|| Instant::now() + effort.patience);
            if Twins::of(&versions[0], &versions[1]).agree() || Instant::now() >= deadline {
                break;
            }
        }
        versions[0].push(run(Command::new(portmap).arg("--version"))?.wall);
        for subject in &mut subjects {
            subject.measure(round)?;
        }
        versions[1].push(run(Command::new(portmap).arg("--version"))?.wall);
        if round == 0 {
            // It warms up.
            versions.iter_mut().for_each(Vec::clear);
            subjects.iter_mut().for_each(Subject::forget);
        }
    }
    tell(&subjects, &versions, report);
    Ok(())
}

impl<'a> Subject<'a> {
    fn new(
        case: &'static Case,
        program: &'a Path,
        is_before: bool,
        state: PathBuf,
    ) -> Result<Subject<'a>> {
        let host = Namespace::enter_new()?;
        let half = 10_000..10_000 + case.sockets / 2;
        let tcp = half.clone().map(|port| TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)));
        let udp = half.map(|port| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)));
        let others = (tcp.collect::<Result<_, _>>()?, udp.collect::<Result<_, _>>()?);
        // The last to be opened, and so the last to be found. On all addresses there is nothing to
        // tell of; without IPv6 there is.
        let target = |port| match case.names {
            true => TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)),
            false => TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)),
        };
        let targets = TARGETS.map(target).into_iter().collect::<Result<_, _>>()?;
        let (looks, walls) = (Vec::new(), Vec::new());
        Ok(Subject {
            case,
            program,
            is_before,
            state,
            host,
            _others: others,
            _targets: targets,
            looks,
            walls,
        })
    }

    fn measure(&mut self, round: usize) -> Result<()> {
        self.host.enter()?;
        let mut command = Command::new(self.program);
        command.args(["apply", "--verbose", "--state-dir"]).arg(&self.state);
        command.arg(format!("80:{}", TARGETS[round % 2]));
        let start = Instant::now();
        let output = command.output().with_context(|| format!("cannot start {command:?}"))?;
        self.walls.push(start.elapsed());
        let said = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() || said.contains("warning: ") != self.case.names {
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
            "One mapping is changed, in {} rounds. The look is what `portmap apply --verbose` says \
             of it: the listeners of TCP and UDP, the interfaces, and where there is something to \
             tell, the programs that it is about, which are found among the descriptors of all \
             processes. The other sockets belong to one process, which has opened the one that is \
             looked for last.",
            subjects[0].looks.len()
        ),
        &Table { head: vec!["portmap apply", "the look", "the whole command"], rows },
    );
}
