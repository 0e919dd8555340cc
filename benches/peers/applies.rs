//! From a file to the kernel: first apply, nothing to do, one mapping changed.

use std::cell::Cell;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::inputs::{FULL, Mappings, TEN, changed_target, target};
use crate::limits::{Check, Noise};
use crate::measure::{Contender, Plan, Rounds, Series, installed, interleave, median};
use crate::namespace::Namespace;
use crate::noise::Twins;
use crate::report::{Bar, Report, Table, memory, plot, time};

const IPTABLES: [(&str, &str); 2] = [
    ("iptables-restore (nft), 2 × 60,000 rules", "iptables-nft-restore"),
    ("iptables-restore (legacy), 2 × 60,000 rules", "iptables-legacy-restore"),
];
pub const IPTABLES_LATENCY: [(&str, &str); 2] = [
    ("iptables (nft), 1,000 rules", "iptables-nft-restore"),
    ("iptables (legacy), 1,000 rules", "iptables-legacy-restore"),
];

/// What the name of another portmap's contender is.
const BEFORE: &str = "portmap before";

pub struct Applies<'a> {
    portmap: &'a Path,
    /// Another one to compare it with.
    pub before: Option<&'a Path>,
    dir: &'a Path,
    rounds: Rounds,
    states: Cell<u32>,
}

impl<'a> Applies<'a> {
    pub fn new(
        portmap: &'a Path,
        before: Option<&'a Path>,
        dir: &'a Path,
        rounds: Rounds,
    ) -> Result<Applies<'a>> {
        for program in [portmap].into_iter().chain(before) {
            let help = Command::new(program).args(["apply", "--help"]).output()?;
            if help.stdout.is_empty() {
                bail!("{} does not know `apply`", program.display());
            }
        }
        Ok(Applies { portmap, before, dir, rounds, states: Cell::new(0) })
    }

    fn portmap(&self, file: &Path, state: &Path) -> Command {
        command(self.portmap, file, state)
    }

    pub fn state(&self) -> PathBuf {
        self.states.set(self.states.get() + 1);
        self.dir.join(format!("state-{}", self.states.get()))
    }

    /// `portmap apply` where it has never run before.
    pub fn fresh(&self, file: &Path) -> Command {
        self.fresh_of(self.portmap, file)
    }

    pub fn fresh_of(&self, program: &Path, file: &Path) -> Command {
        command(program, file, &self.state())
    }

    /// The first contender is portmap, the second what it is compared with; there may be a twin of
    /// the second, called the same `, again`.
    fn interleave(
        &self,
        contenders: &mut [Contender],
        with_commit: bool,
    ) -> Result<(Vec<Series>, Option<Twins>)> {
        let twin = contenders.iter().position(|c| c.name.ends_with(", again"));
        let twins = twin.map(|twin| [1, twin]);
        let plan = Plan { rounds: self.rounds, with_commit, twins, dir: self.dir };
        interleave(contenders, &plan)
    }

    pub fn measure(&self, report: &mut Report) -> Result<()> {
        self.first(report)?;
        self.again(report)?;
        self.changed(report)
    }

    fn first(&self, report: &mut Report) -> Result<()> {
        let full = Mappings::new(FULL);
        let file = |name: &str| self.dir.join(name);
        let (yaml, map, rules, iptables_rules) =
            (file("full.yaml"), file("full.nft"), file("rules.nft"), file("rules.iptables"));
        full.yaml(&yaml)?;
        full.nft_map(&map)?;
        full.nft_rules(&rules)?;
        full.iptables(&iptables_rules)?;
        let render = file("render.nft");
        let status = Command::new(self.portmap)
            .args(["render", "--format", "nft"])
            .arg(&yaml)
            .stdout(File::create(&render)?)
            .stderr(Stdio::null())
            .status()?;
        if !status.success() {
            bail!("portmap render: {status}");
        }

        let mut contenders = vec![
            new("portmap apply", false, || self.fresh(&yaml)),
            new("nft -f, one map of 60,000", false, || nft(&map)),
            new("nft -f of `portmap render`", false, || nft(&render)),
            new("nft -f, 2 × 60,000 rules", true, || nft(&rules)),
        ];
        let mut missing = Vec::new();
        for (name, program) in IPTABLES {
            match installed(program) {
                true => contenders
                    .push(new(name, true, || iptables(program, &iptables_rules, self.dir))),
                false => missing.push(program),
            }
        }
        contenders.push(new("nft -f, one map of 60,000, again", false, || nft(&map)));
        if let Some(before) = self.before {
            contenders.push(new(BEFORE, false, || self.fresh_of(before, &yaml)));
        }
        let (series, twins) = self.interleave(&mut contenders, true)?;
        drop(contenders);
        report.section(
            "First apply of 60,000 mappings",
            &format!(
                "Into an empty network namespace, the medians of {} rounds ({} of those with one \
                 rule per mapping and hook). The kernel's commit is the time it takes for the \
                 transaction (the call that sends it, and the close of the socket, in which it \
                 cleans up), measured in runs apart; the rest is what the program itself costs. \
                 iptables covers IPv4 only.{}",
                series[0].samples.len(),
                self.rounds.heavy,
                crate::note(&missing),
            ),
            &commit_table(&series),
        );
        report.plot(
            "bench-apply.svg",
            "Times of the first apply, as in the table",
            plot(
                "First apply of 60,000 mappings (median)",
                Some(("all else", "the kernel's commit")),
                &series
                    .iter()
                    .map(|s| Bar { label: s.name, value: s.median(), part: s.commit })
                    .collect::<Vec<_>>(),
            ),
        );
        let what = "first apply of 60,000 mappings, of nft -f with a map";
        check(report, what, &series, twins, 0.35);
        compare(report, "first apply of 60,000 mappings", &series);
        check_memory(report, "peak memory with 60,000 mappings", &series[0], 80.0);

        self.phases(report, "first apply of 60,000", &yaml)?;

        let ten = Mappings::new(TEN);
        let (yaml, map) = (file("ten.yaml"), file("ten.nft"));
        ten.yaml(&yaml)?;
        ten.nft_map(&map)?;
        let mut contenders = vec![
            new("portmap apply", false, || self.fresh(&yaml)),
            new("nft -f, one map", false, || nft(&map)),
        ];
        if let Some(before) = self.before {
            contenders.push(new(BEFORE, false, || self.fresh_of(before, &yaml)));
        }
        let (series, _) = self.interleave(&mut contenders, true)?;
        report.section(
            "First apply of 10 mappings",
            "The same with ten. portmap also writes the generation to disk, synchronously.",
            &commit_table(&series),
        );
        check_memory(report, "peak memory with 10 mappings", &series[0], 8.0);
        compare(report, "first apply of 10 mappings", &series);
        self.phases(report, "first apply of 10", &yaml)
    }

    /// What portmap itself says it spent its time on: lines like `commit: 44.1 ms`.
    fn phases(&self, report: &mut Report, title: &str, yaml: &Path) -> Result<()> {
        let mut phases: Vec<(String, Vec<Duration>)> = Vec::new();
        for _ in 0..self.rounds.heavy {
            Namespace::enter_new()?;
            let said = self.fresh(yaml).arg("--verbose").output()?.stderr;
            for line in String::from_utf8_lossy(&said).lines() {
                let Some((phase, took)) = line.split_once(": ") else { continue };
                let Some(Ok(took)) = took.strip_suffix(" ms").map(str::parse::<f64>) else {
                    continue;
                };
                let took = Duration::from_secs_f64(took / 1e3);
                match phases.iter_mut().find(|(known, _)| known == phase) {
                    Some((_, times)) => times.push(took),
                    None => phases.push((phase.to_string(), vec![took])),
                }
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        if phases.is_empty() {
            return Ok(());
        }
        let rows = phases.into_iter().map(|(phase, times)| vec![phase, time(median(times))]);
        let table = Table { head: vec!["step of portmap's", "median"], rows: rows.collect() };
        report.section(
            &format!("Where the time goes: {title}"),
            "As `portmap apply --verbose` tells it.",
            &table,
        );
        Ok(())
    }

    fn again(&self, report: &mut Report) -> Result<()> {
        for (title, ports, what, limit) in [
            ("Nothing to do, 10 mappings", TEN, "no-op apply of 10 mappings, of nft -f", 0.5),
            ("Nothing to do, 60,000 mappings", FULL, "no-op apply of 60,000, of nft -f", 0.15),
        ] {
            let (yaml, map) = (self.dir.join("again.yaml"), self.dir.join("again.nft"));
            Mappings::new(ports.clone()).yaml(&yaml)?;
            Mappings::new(ports).nft_map(&map)?;
            let state = self.state();
            let ours = Namespace::enter_new()?;
            apply(&mut self.portmap(&yaml, &state))?;
            let theirs = Namespace::enter_new()?;
            apply(&mut nft(&map))?;
            let twins = Namespace::enter_new()?;
            apply(&mut nft(&map))?;
            let touched_state = self.state();
            let touched = Namespace::enter_new()?;
            apply(&mut self.portmap(&yaml, &touched_state))?;
            let before_state = self.state();
            let before = Namespace::enter_new()?;
            let foreign = self.dir.join("foreign.nft");
            std::fs::write(&foreign, "add table ip foreign\ndelete table ip foreign\n")?;
            let mut contenders = vec![
                within("portmap apply", &ours, || self.portmap(&yaml, &state)),
                within("nft -f, one map", &theirs, || nft(&map)),
                Contender {
                    name: "portmap apply, ruleset touched",
                    heavy: false,
                    prepare: Box::new(|| {
                        touched.enter()?;
                        apply(&mut nft(&foreign))?;
                        Ok(self.portmap(&yaml, &touched_state))
                    }),
                },
                within("nft -f, one map, again", &twins, || nft(&map)),
            ];
            if let Some(program) = self.before {
                apply(&mut command(program, &yaml, &before_state))?;
                let again = || command(program, &yaml, &before_state);
                contenders.push(within(BEFORE, &before, again));
            }
            let (series, twins) = self.interleave(&mut contenders, false)?;
            report.section(
                title,
                "What the file says is active already. nft replaces the table, as it has no way \
                 to tell. Touched: another program has changed the ruleset since, so that portmap \
                 has to read its table to know.",
                &table(&series),
            );
            check(report, what, &series, twins, limit);
            compare(report, title, &series);
        }
        Ok(())
    }

    fn changed(&self, report: &mut Report) -> Result<()> {
        const CHANGED: u16 = 30_000;
        // Each contender goes to and fro between two forms.
        let usual = Mappings::new(FULL);
        let other = Mappings { changed: Some(CHANGED), ..usual.clone() };
        let forms = [("a", usual), ("b", other)];
        let file = |form: &str, suffix: &str| self.dir.join(format!("changed-{form}.{suffix}"));
        for (form, mappings) in &forms {
            mappings.yaml(&file(form, "yaml"))?;
            mappings.nft_map(&file(form, "nft"))?;
        }
        let elements = |form: &str, before: u16, after: u16| {
            std::fs::write(
                file(form, "elements.nft"),
                format!(
                    "delete element inet peer ports {{ tcp . {CHANGED} : {before} }}\n\
                     add element inet peer ports {{ tcp . {CHANGED} : {after} }}\n"
                ),
            )
        };
        let (usual, other) = (target(CHANGED), changed_target(CHANGED));
        elements("a", other, usual)?;
        elements("b", usual, other)?;

        let state = self.state();
        let ours = Namespace::enter_new()?;
        apply(&mut self.portmap(&file("a", "yaml"), &state))?;
        let whole = Namespace::enter_new()?;
        apply(&mut nft(&file("a", "nft")))?;
        let single = Namespace::enter_new()?;
        apply(&mut nft(&file("a", "nft")))?;
        let twin = Namespace::enter_new()?;
        apply(&mut nft(&file("a", "nft")))?;
        let before_state = self.state();
        let before = Namespace::enter_new()?;
        // Each turns its own switch.
        let switches: [Cell<bool>; 5] = Default::default();
        let next = |switch: &Cell<bool>| if switch.replace(!switch.get()) { "a" } else { "b" };
        let mut contenders = vec![
            within("portmap apply", &ours, || {
                self.portmap(&file(next(&switches[0]), "yaml"), &state)
            }),
            within("nft -f, the whole map", &whole, || nft(&file(next(&switches[1]), "nft"))),
            within("nft -f, the element by hand", &single, || {
                nft(&file(next(&switches[2]), "elements.nft"))
            }),
            within("nft -f, the whole map, again", &twin, || nft(&file(next(&switches[3]), "nft"))),
        ];
        if let Some(program) = self.before {
            apply(&mut command(program, &file("a", "yaml"), &before_state))?;
            contenders.push(within(BEFORE, &before, || {
                command(program, &file(next(&switches[4]), "yaml"), &before_state)
            }));
        }
        let (series, twins) = self.interleave(&mut contenders, false)?;
        report.section(
            "One mapping changed among 60,000",
            "By hand: a file that only deletes and adds the one element, for who knows what is \
             active.",
            &table(&series),
        );
        check(report, "one changed among 60,000, of nft -f with all", &series, twins, 0.25);
        compare(report, "one changed among 60,000", &series);
        Ok(())
    }
}

pub fn command(program: &Path, file: &Path, state: &Path) -> Command {
    let mut command = Command::new(program);
    command.arg("apply").arg(file).arg("--state-dir").arg(state);
    command
}

pub fn nft(file: &Path) -> Command {
    let mut command = Command::new("nft");
    command.arg("-f").arg(file);
    command
}

/// With a lock of its own: the machine's is not ours to hold.
pub fn iptables(program: &str, file: &Path, dir: &Path) -> Command {
    let mut command = Command::new(program);
    command.env("XTABLES_LOCKFILE", dir.join("xtables.lock")).arg(file);
    command
}

/// Not measured.
pub fn apply(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("cannot start {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

/// Starts in an empty namespace each time.
fn new<'a>(name: &'static str, heavy: bool, command: impl Fn() -> Command + 'a) -> Contender<'a> {
    let prepare = move || {
        Namespace::enter_new()?;
        Ok(command())
    };
    Contender { name, heavy, prepare: Box::new(prepare) }
}

/// Starts in the state that the run before left.
fn within<'a>(
    name: &'static str,
    namespace: &'a Namespace,
    command: impl Fn() -> Command + 'a,
) -> Contender<'a> {
    let prepare = move || {
        namespace.enter()?;
        Ok(command())
    };
    Contender { name, heavy: false, prepare: Box::new(prepare) }
}

/// The first is portmap, the second what it is compared with.
fn check(
    report: &mut Report,
    what: &'static str,
    series: &[Series],
    twins: Option<Twins>,
    limit: f64,
) {
    let value = series[0].ratio_to(&series[1]);
    let noise = twins.map(|twins| Noise { twins, of: value });
    report.checks.push(Check { what, value, limit, unit: "", noise });
}

fn compare(report: &mut Report, what: &str, series: &[Series]) {
    if let Some(before) = series.iter().find(|series| series.name == BEFORE) {
        let ratio = series[0].ratio_to(before);
        report.compare(what, before.median(), series[0].median(), ratio);
    }
}

fn check_memory(report: &mut Report, what: &'static str, series: &Series, limit: f64) {
    let value = series.peak() as f64 / 1024.0;
    report.checks.push(Check { what, value, limit, unit: " MiB", noise: None });
}

fn table(series: &[Series]) -> Table {
    let rows = series.iter().map(|s| {
        let ratio = s.ratio_to(&series[1]);
        vec![s.name.to_string(), time(s.median()), format!("{ratio:.2}"), memory(s.peak())]
    });
    Table { head: vec!["command", "median", "ratio", "peak memory"], rows: rows.collect() }
}

fn commit_table(series: &[Series]) -> Table {
    let mut table = table(series);
    table.head.extend(["kernel's commit", "outside it"]);
    for (row, series) in table.rows.iter_mut().zip(series) {
        match series.commit {
            Some(commit) => {
                let outside = 1.0 - commit.as_secs_f64() / series.median().as_secs_f64();
                row.extend([time(commit), format!("{:.0} %", outside * 100.0)]);
            }
            None => row.extend(["".to_string(), "".to_string()]),
        }
    }
    table
}
