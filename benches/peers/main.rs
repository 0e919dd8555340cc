//! `make bench`: portmap against what one would use in its place.
//!
//! Runs as root. Everything happens in network namespaces made here; the machine's own ruleset is
//! neither read nor changed. Exits with 1 if a limit is missed, and with 0 if the machine is too
//! noisy to tell.
//!
//! `--quick`: few rounds, no proxies. `--only applies`, `noop`, `listeners`, `doctor`, `aftermath`
//! or `connections`: that part.
//! `--portmap PATH`: another binary. `--before PATH`: a second binary, measured in turns with the
//! first. With any of these, nothing is written.

mod aftermath;
mod applies;
mod connections;
mod doctor;
mod inputs;
mod kernel;
mod latency;
mod limits;
mod listeners;
mod measure;
mod namespace;
mod noise;
mod noop;
mod report;

use std::fmt::Write;
use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use applies::Applies;
use limits::{Check, Verdict};
use measure::{Rounds, installed};
use report::{Report, Table};

const DOCS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs");

const PARTS: [&str; 6] = ["applies", "noop", "listeners", "doctor", "aftermath", "connections"];

struct Options {
    quick: bool,
    /// One of [`PARTS`]; all without it.
    only: Option<String>,
    /// Instead of the one that was just built.
    portmap: Option<PathBuf>,
    before: Option<PathBuf>,
}

fn main() -> ExitCode {
    // `cargo test --benches` starts benchmarks without it; that is not the time to measure.
    if !std::env::args().any(|argument| argument == "--bench") {
        println!("peers: measures only under `cargo bench` (make bench)");
        return ExitCode::SUCCESS;
    }
    let mut arguments = std::env::args().skip_while(|argument| argument != listeners::HOLD);
    if arguments.next().is_some() {
        return match listeners::hold(arguments) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("bench: open sockets: {error:#}");
                ExitCode::FAILURE
            }
        };
    }
    match options().and_then(|options| bench(&options)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn options() -> Result<Options> {
    let mut options = Options { quick: false, only: None, portmap: None, before: None };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut path = || {
            let path = arguments.next().with_context(|| format!("{argument} needs a path"))?;
            anyhow::Ok(Some(fs::canonicalize(&path).context(path)?))
        };
        match argument.as_str() {
            "--bench" => {}
            "--quick" => options.quick = true,
            "--portmap" => options.portmap = path()?,
            "--before" => options.before = path()?,
            "--only" => {
                options.only = arguments.next().filter(|part| PARTS.contains(&part.as_str()));
                if options.only.is_none() {
                    bail!("--only needs one of {}", PARTS.join(", "));
                }
            }
            _ => bail!(
                "unknown argument {argument}; there are --quick, --only PART, --portmap PATH and \
                 --before PATH"
            ),
        }
    }
    Ok(options)
}

impl Options {
    fn measures(&self, part: &str) -> bool {
        self.only.as_deref().is_none_or(|only| only == part)
    }

    /// What docs/bench.md is about.
    fn is_full(&self) -> bool {
        let Options { quick, only, portmap, before } = self;
        !quick && only.is_none() && portmap.is_none() && before.is_none()
    }
}

/// Whether no limit is missed.
fn bench(options: &Options) -> Result<bool> {
    if !nix::unistd::geteuid().is_root() {
        bail!("network namespaces and 60,000 rules need root: sudo make bench");
    }
    for program in ["nft", "ip"] {
        if !installed(program) {
            bail!("{program} is missing; `make bench-deps` installs what is compared with");
        }
    }
    let start = Instant::now();
    let dir = Scratch::new()?;
    let dir = dir.0.as_path();
    let mut report = Report::default();

    // A child's peak is never below that of the process it was spawned from: ours must be small.
    let floor = measure::run(&mut Command::new("true"))?.peak;
    if floor > 6 * 1024 {
        bail!("this process is so large ({floor} KiB) that it would hide what its children use");
    }

    let rounds = match options.quick {
        true => Rounds { quick: 3, heavy: 1, patience: Duration::from_secs(1) },
        false => Rounds { quick: 11, heavy: 5, patience: Duration::from_secs(25) },
    };
    let portmap = options.portmap.as_deref().unwrap_or(Path::new(env!("CARGO_BIN_EXE_portmap")));
    let applies = Applies::new(portmap, options.before.as_deref(), dir, rounds)?;
    if options.measures("applies") {
        applies.measure(&mut report)?;
    }
    if options.measures("noop") {
        let effort = match options.quick {
            true => noise::Effort { rounds: 5, patience: Duration::from_secs(2) },
            false => noise::Effort { rounds: 41, patience: Duration::from_secs(60) },
        };
        noop::measure(&applies, portmap, dir, &effort, &mut report)?;
    }
    if options.measures("listeners") {
        let effort = match options.quick {
            true => noise::Effort { rounds: 5, patience: Duration::from_secs(2) },
            false => noise::Effort { rounds: 41, patience: Duration::from_secs(30) },
        };
        listeners::measure(&applies, portmap, &effort, &mut report)?;
    }
    if options.measures("doctor") {
        doctor::measure(&applies, portmap, dir, rounds.quick, &mut report)?;
    }
    if options.measures("aftermath") {
        aftermath::measure(&applies, portmap, dir, options.quick, &mut report)?;
    }
    if options.measures("connections") {
        connections::measure(options.quick, &applies, dir, &mut report)?;
    }

    println!("{}, {} s\n", machine(), start.elapsed().as_secs());
    if let Some(comparison) = report.comparison() {
        println!("Before and now\n\n{comparison}");
    }
    let limits = limits::table(&report.checks);
    println!("Limits\n\n{limits}");
    let verdicts: Vec<Verdict> = report.checks.iter().map(Check::verdict).collect();
    if verdicts.contains(&Verdict::TooNoisy) {
        println!(
            "Too noisy: identical contenders did not come out alike on this machine. Measure \
             again when it is quiet."
        );
    }
    if options.is_full() {
        write(&report, &limits)?;
    }
    Ok(!verdicts.contains(&Verdict::Missed))
}

fn note(missing: &[&str]) -> String {
    match missing {
        [] => String::new(),
        _ => format!(" Not installed and so not measured: {}.", missing.join(", ")),
    }
}

fn machine() -> String {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let release: Vec<&str> = release.trim().split(['.', '-']).take(2).collect();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut text = format!("Linux {}, {cores} cores", release.join("."));
    for program in ["nft", "iptables"] {
        if let Ok(output) = Command::new(program).arg("--version").output() {
            let said = String::from_utf8_lossy(&output.stdout);
            if let Some(version) = said.split_whitespace().nth(1) {
                let _ = write!(text, ", {program} {}", version.trim_start_matches('v'));
            }
        }
    }
    text
}

fn write(report: &Report, limits: &Table) -> Result<()> {
    fs::create_dir_all(DOCS)?;
    fs::write(
        Path::new(DOCS).join("bench.md"),
        format!(
            "# portmap against its peers\n\n\
             Written by `make bench`, which fails if a limit is missed. Measured on {}. Times \
             drift from machine to machine and from day to day; the ratios are what counts: each \
             is the median of the ratios within the same round, and the rounds of all contenders \
             are interleaved. A time is that of a whole command, from spawn to exit.\n\n\
             Twins are two identical contenders, measured like the others: the ratio of their \
             times, and the interval that holds it with a probability of 95 %. The measurement \
             goes on until that interval is within 3 % of 1, for a limited time. If it does not \
             get there, the machine is too noisy: a limit is then kept only if noise cannot be \
             the reason, and never missed.\n\n\
             {limits}{}",
            machine(),
            report.text,
        ),
    )?;
    for (file, svg) in &report.plots {
        fs::write(Path::new(DOCS).join(file), svg)?;
    }
    Ok(())
}

/// Root's own directory for the files that the contenders read; removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Scratch> {
        let path = std::env::temp_dir().join(format!("portmap-bench.{}", std::process::id()));
        fs::DirBuilder::new().mode(0o700).create(&path).context("cannot make a directory")?;
        Ok(Scratch(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
