//! `make bench`: portmap against what one would use in its place.
//!
//! Runs as root. Everything happens in network namespaces made here; the machine's own ruleset is
//! neither read nor changed. Exits with 1 if a limit is missed.
//!
//! `--quick`: few rounds, no proxies, nothing written. `--only applies` or `--only connections`:
//! that half, nothing written. `--portmap PATH`: another binary.

mod applies;
mod inputs;
mod latency;
mod measure;
mod namespace;
mod report;

use std::fmt::Write;
use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};

use applies::Applies;
use inputs::{FULL, Mappings, TEN, THOUSAND};
use latency::Lane;
use measure::{Rounds, installed};
use report::{Bar, Table, plot, time};

const DOCS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs");

struct Options {
    quick: bool,
    applies: bool,
    connections: bool,
    portmap: PathBuf,
}

/// The least that makes the kernel track connections, as on every host with a firewall.
const FIREWALL: &str = "\
table inet firewall {
	chain input {
		type filter hook input priority 0; policy accept;
		ct state established,related accept
	}
}
";

/// A limit that is to be kept.
pub struct Check {
    pub what: &'static str,
    pub value: f64,
    pub limit: f64,
    pub unit: &'static str,
}

impl Check {
    fn kept(&self) -> bool {
        self.value <= self.limit
    }
}

/// What goes to the terminal and to docs/bench.md.
#[derive(Default)]
pub struct Report {
    pub text: String,
    pub checks: Vec<Check>,
    pub plots: Vec<(&'static str, String)>,
}

impl Report {
    pub fn section(&mut self, title: &str, text: &str, table: &Table) {
        println!("{title}\n\n{table}");
        let _ = write!(self.text, "\n## {title}\n\n{text}\n\n{table}");
    }

    pub fn plot(&mut self, file: &'static str, alt: &str, svg: String) {
        let _ = write!(self.text, "\n![{alt}]({file})\n");
        self.plots.push((file, svg));
    }
}

fn main() -> ExitCode {
    // `cargo test --benches` starts benchmarks without it; that is not the time to measure.
    if !std::env::args().any(|argument| argument == "--bench") {
        println!("peers: measures only under `cargo bench` (make bench)");
        return ExitCode::SUCCESS;
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
    let mut options = Options {
        quick: false,
        applies: true,
        connections: true,
        portmap: PathBuf::from(env!("CARGO_BIN_EXE_portmap")),
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--bench" => {}
            "--quick" => options.quick = true,
            "--only" => match arguments.next().as_deref() {
                Some("applies") => options.connections = false,
                Some("connections") => options.applies = false,
                _ => bail!("--only needs `applies` or `connections`"),
            },
            "--portmap" => {
                let path = arguments.next().context("--portmap needs a path")?;
                options.portmap = fs::canonicalize(&path).context(path)?;
            }
            _ => bail!(
                "unknown argument {argument}; there are --quick, --only HALF and --portmap PATH"
            ),
        }
    }
    Ok(options)
}

/// Whether all limits are kept.
fn bench(options: &Options) -> Result<bool> {
    if !nix::unistd::geteuid().is_root() {
        bail!("network namespaces and 60,000 rules need root: sudo make bench");
    }
    for program in ["nft", "ip"] {
        if !installed(program) {
            bail!("{program} is missing; `make bench-deps` installs what is compared with");
        }
    }
    let dir = Scratch::new()?;
    let dir = dir.0.as_path();
    let mut report = Report::default();

    // A child's peak is never below that of the process it was spawned from: ours must be small.
    let floor = measure::run(&mut Command::new("true"), dir)?.peak;
    if floor > 6 * 1024 {
        bail!("this process is so large ({floor} KiB) that it would hide what its children use");
    }

    let rounds = match options.quick {
        true => Rounds { quick: 3, heavy: 1 },
        false => Rounds { quick: 11, heavy: 5 },
    };
    let applies = Applies::new(&options.portmap, dir, rounds)?;
    if options.applies {
        applies.measure(&mut report)?;
    }
    if options.connections {
        connections(options, &applies, dir, &mut report)?;
    }

    println!("{}\n", machine());
    let limits = limits(&report.checks);
    println!("Limits\n\n{limits}");
    if !options.quick && options.applies && options.connections {
        write(&report, &limits)?;
    }
    Ok(report.checks.iter().all(Check::kept))
}

fn connections(
    options: &Options,
    applies: &Applies,
    dir: &Path,
    report: &mut Report,
) -> Result<()> {
    let nft = |name: &str, write: &dyn Fn(&Path) -> std::io::Result<()>| -> Result<Command> {
        let file = dir.join(name);
        write(&file)?;
        let mut command = Command::new("nft");
        command.arg("-f").arg(file);
        Ok(command)
    };
    let ten = dir.join("latency-10.yaml");
    Mappings::new(TEN).yaml(&ten)?;
    let full = dir.join("latency-60000.yaml");
    Mappings::new(FULL).yaml(&full)?;

    let mut missing = Vec::new();
    let mut lanes = vec![
        Lane::beside("direct", nft("firewall.nft", &|file| fs::write(file, FIREWALL))?, dir)?,
        Lane::direct("direct, untracked")?,
        Lane::beside("direct, past 60,000 mappings", applies.fresh(&full), dir)?,
        Lane::mapped("portmap, 10 mappings", applies.fresh(&ten), dir)?,
        Lane::mapped("portmap, 60,000 mappings", applies.fresh(&full), dir)?,
        Lane::mapped(
            "nft map, 60,000 elements",
            nft("latency-map.nft", &|file| Mappings::new(FULL).nft_map(file))?,
            dir,
        )?,
        Lane::mapped(
            "nft, 1,000 rules",
            nft("latency-rules.nft", &|file| Mappings::new(THOUSAND).nft_rules(file))?,
            dir,
        )?,
    ];
    let file = dir.join("latency.iptables");
    Mappings::new(THOUSAND).iptables(&file)?;
    for (name, program) in applies::IPTABLES_LATENCY {
        match installed(program) {
            true => lanes.push(Lane::mapped(name, applies::iptables(program, &file, dir), dir)?),
            false => missing.push(program),
        }
    }
    if !options.quick {
        lanes.extend(latency::proxies(dir, &mut missing)?);
    }
    let (rounds, connections) = if options.quick { (3, 300) } else { (9, 2000) };
    latency::measure(&mut lanes, rounds, connections)?;

    let table = Table {
        head: vec!["connection", "median", "99th percentile", "of direct", "of untracked"],
        rows: lanes
            .iter()
            .map(|lane| {
                vec![
                    lane.name.to_string(),
                    time(lane.median()),
                    time(lane.ninety_ninth()),
                    format!("{:.2}", lane.ratio_to(&lanes[0])),
                    format!("{:.2}", lane.ratio_to(&lanes[1])),
                ]
            })
            .collect(),
    };
    report.section(
        "One connection",
        &format!(
            "A client in another namespace connects over a veth link (IPv4), sends one byte and \
             waits until it comes back; {connections} times in each of {rounds} rounds, in turns \
             of 100. Direct: to the server's own port, on a host with a stateful firewall of one \
             rule; untracked: on a host without any rule, so that the kernel does not even track \
             connections, which every redirect needs. With rules it connects to the last of them. \
             A proxy runs beside the server, as it comes (but with its log off), and passes the \
             connection on over loopback.{}",
            note(&missing)
        ),
        &table,
    );
    report.plot(
        "bench-latency.svg",
        "Connection latency, as in the table",
        plot(
            "One connection: connect, one byte there and back (median)",
            None,
            &lanes
                .iter()
                .map(|lane| Bar { label: lane.name, value: lane.median(), part: None })
                .collect::<Vec<_>>(),
        ),
    );
    for (what, lane) in [
        ("connection through 10 mappings, of a direct one", "portmap, 10 mappings"),
        ("connection through 60,000 mappings, of a direct one", "portmap, 60,000 mappings"),
    ] {
        let lane = lanes.iter().find(|l| l.name == lane).context("a lane that was measured")?;
        let value = lane.ratio_to(&lanes[0]);
        report.checks.push(Check { what, value, limit: 1.15, unit: "" });
    }
    Ok(())
}

fn note(missing: &[&str]) -> String {
    match missing {
        [] => String::new(),
        _ => format!(" Not installed and so not measured: {}.", missing.join(", ")),
    }
}

fn limits(checks: &[Check]) -> Table {
    Table {
        head: vec!["limit", "measured", "at most", "kept"],
        rows: checks
            .iter()
            .map(|check| {
                vec![
                    check.what.to_string(),
                    format!("{:.2}{}", check.value, check.unit),
                    format!("{}{}", check.limit, check.unit),
                    if check.kept() { "yes" } else { "NO" }.to_string(),
                ]
            })
            .collect(),
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
