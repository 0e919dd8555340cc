//! Nothing to do, with a full history: what configuration management runs every half hour.
//!
//! The limit is on what portmap itself costs: the time of the command, less that of
//! `portmap --version` (a process that starts, loads its libraries and ends) and less that of the
//! kernel's answers, as [`kernel::read`] measures it in the same namespace just before. Each is
//! measured in the same situation: for some 20 ms after a commit the kernel is busy with it, and
//! whatever runs then takes longer.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::applies::{Applies, apply, command, nft};
use crate::kernel;
use crate::limits::{Check, Noise};
use crate::measure::{median, run};
use crate::namespace::Namespace;
use crate::noise::{Effort, Patience, Twins, paired_ratio};
use crate::report::{Report, Table, time};

/// As many as portmap keeps.
const GENERATIONS: usize = 50;
/// In milliseconds.
const LIMIT: f64 = 1.0;

struct Case {
    /// What is said of it in the tables, and with the limit.
    name: &'static str,
    what: &'static str,
    warned: bool,
    touched: bool,
}

const CASES: [Case; 4] = [
    Case {
        name: "no warning, ruleset as it was",
        what: "no-op of 10 with 50 generations, beyond --version and kernel",
        warned: false,
        touched: false,
    },
    Case {
        name: "no warning, another's commit between",
        what: "the same after another program's commit",
        warned: false,
        touched: true,
    },
    Case {
        name: "a warning, ruleset as it was",
        what: "the same with a warning in the file",
        warned: true,
        touched: false,
    },
    Case {
        name: "a warning, another's commit between",
        what: "the same with a warning, after another program's commit",
        warned: true,
        touched: true,
    },
];

/// One portmap in one of the cases, on a host of its own.
struct Subject<'a> {
    case: &'static Case,
    program: &'a Path,
    is_before: bool,
    file: PathBuf,
    state: PathBuf,
    host: Namespace,
    versions: Vec<Duration>,
    walls: Vec<Duration>,
    answers: Vec<Duration>,
}

pub fn measure(
    applies: &Applies,
    portmap: &Path,
    dir: &Path,
    effort: &Effort,
    report: &mut Report,
) -> Result<()> {
    let foreign = dir.join("foreign-noop.nft");
    std::fs::write(&foreign, "add table ip foreign\ndelete table ip foreign\n")?;
    let mut subjects = Vec::new();
    for case in &CASES {
        subjects.push(Subject::new(case, portmap, false, applies.state(), dir)?);
        if let Some(before) = applies.before {
            subjects.push(Subject::new(case, before, true, applies.state(), dir)?);
        }
    }
    let mut patience = Patience::of(effort.patience);
    for round in 0.. {
        let are_alike = || [false, true].iter().all(|touched| twins(&subjects, *touched).agree());
        if round > effort.rounds && patience.is_over(are_alike()) {
            break;
        }
        for subject in &mut subjects {
            subject.measure(&foreign)?;
        }
        if round == 0 {
            // It warms up.
            subjects.iter_mut().for_each(Subject::forget);
        }
    }
    tell(&subjects, report);
    Ok(())
}

/// `--version` in the two cases that are in the same situation.
fn twins(subjects: &[Subject], touched: bool) -> Twins {
    let alike = subjects.iter().filter(|subject| !subject.is_before);
    let alike: Vec<_> = alike.filter(|subject| subject.case.touched == touched).collect();
    Twins::of(&alike[0].versions, &alike[1].versions)
}

impl<'a> Subject<'a> {
    fn new(
        case: &'static Case,
        program: &'a Path,
        is_before: bool,
        state: PathBuf,
        dir: &Path,
    ) -> Result<Subject<'a>> {
        let host = Namespace::enter_new()?;
        // Ten mappings without anything to warn of: privileged ports to targets that are neither
        // privileged nor in the kernel's ephemeral range. Each generation is another one.
        let write = |generation: usize| {
            let file = dir.join(format!("noop-{}-{generation}.yaml", case.warned));
            let target = |port| match port {
                1000 if case.warned => 600 + generation,
                _ => 2000 + port + generation,
            };
            let lines = (991..=1000).map(|port| format!("  {port}: {}\n", target(port)));
            std::fs::write(&file, format!("ports:\n{}", lines.collect::<String>()))?;
            anyhow::Ok(file)
        };
        for generation in 1..=GENERATIONS {
            apply(&mut command(program, &write(generation)?, &state))?;
        }
        let file = write(GENERATIONS)?;
        let kept = generations(program, &state)?;
        if kept != GENERATIONS {
            bail!("the history of {} has {kept} generations", program.display());
        }
        let warnings = command(program, &file, &state).output()?.stderr;
        if case.warned == warnings.is_empty() {
            bail!("{}: expected other warnings: {}", file.display(), warnings.escape_ascii());
        }
        let (versions, walls, answers) = (Vec::new(), Vec::new(), Vec::new());
        Ok(Subject { case, program, is_before, file, state, host, versions, walls, answers })
    }

    fn measure(&mut self, foreign: &Path) -> Result<()> {
        self.host.enter()?;
        self.prepare(foreign)?;
        let version = run(Command::new(self.program).arg("--version"))?.wall;
        self.prepare(foreign)?;
        let before = kernel::read()?;
        let sample = run(&mut command(self.program, &self.file, &self.state))?;
        if kernel::read()?.generation != before.generation {
            bail!("{}: an apply with nothing to do has changed the ruleset", self.case.name);
        }
        self.versions.push(version);
        self.walls.push(sample.wall);
        self.answers.push(before.took);
        Ok(())
    }

    fn prepare(&self, foreign: &Path) -> Result<()> {
        if self.case.touched {
            apply(&mut nft(foreign))?;
        }
        // The most of what the kernel does in the background is over then.
        sleep(Duration::from_millis(5));
        Ok(())
    }

    fn forget(&mut self) {
        self.versions.clear();
        self.walls.clear();
        self.answers.clear();
    }

    /// In milliseconds, the median of what is left of each round.
    fn beyond(&self) -> f64 {
        let rounds = self.walls.iter().zip(&self.versions).zip(&self.answers);
        let mut beyond: Vec<f64> = rounds
            .map(|((wall, version), answers)| {
                (wall.as_secs_f64() - version.as_secs_f64() - answers.as_secs_f64()) * 1e3
            })
            .collect();
        beyond.sort_by(f64::total_cmp);
        beyond[beyond.len() / 2]
    }
}

fn generations(program: &Path, state: &Path) -> Result<usize> {
    let history =
        Command::new(program).args(["history", "-o", "json", "--state-dir"]).arg(state).output()?;
    let history: serde_json::Value = serde_json::from_slice(&history.stdout)?;
    let list = history["generations"].as_array();
    Ok(list.context("`history -o json` has no generations")?.len())
}

fn tell(subjects: &[Subject], report: &mut Report) {
    let mut rows: Vec<Vec<String>> = Vec::new();
    for subject in subjects {
        let beyond = subject.beyond();
        let which = if subject.is_before { "before: " } else { "" };
        rows.push(vec![
            format!("{which}{}", subject.case.name),
            time(median(subject.walls.clone())),
            time(median(subject.versions.clone())),
            time(median(subject.answers.clone())),
            format!("{beyond:.2} ms"),
        ]);
        if !subject.is_before {
            let what = subject.case.what;
            let of = median(subject.versions.clone()).as_secs_f64() * 1e3;
            let noise = Some(Noise { twins: twins(subjects, subject.case.touched), of });
            report.checks.push(Check { what, value: beyond, limit: LIMIT, unit: " ms", noise });
        }
    }
    for before in subjects.iter().filter(|subject| subject.is_before) {
        let now = subjects.iter().find(|s| !s.is_before && s.case.name == before.case.name);
        let now = now.expect("each case is measured with both");
        let what = format!("no-op with 50 generations: {}", before.case.name);
        let ratio = paired_ratio(&now.walls, &before.walls);
        report.compare(&what, median(before.walls.clone()), median(now.walls.clone()), ratio);
    }
    report.section(
        "Nothing to do, 10 mappings, with a history of 50 generations",
        &format!(
            "What the file says is active already, in {} rounds. A file with a warning has it \
             repeated; another's commit is one of `nft` that concerns other tables. The kernel's \
             answers are what a minimal netlink reader takes, in the same namespace just before, \
             from opening its socket to closing it: it asks for the generation, dumps the whole of \
             portmap's table, and asks for the generation again. `portmap --version` is run in the \
             same situation, after another's commit of its own: the kernel is busy with one for \
             some 20 ms. Beyond is the median, by round, of what the command takes less \
             `--version` and less these answers.",
            subjects[0].walls.len()
        ),
        &Table {
            head: vec![
                "portmap apply",
                "median",
                "portmap --version",
                "kernel's answers",
                "beyond",
            ],
            rows,
        },
    );
}
