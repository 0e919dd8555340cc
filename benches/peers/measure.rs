//! Running commands and turning what was measured into figures.

use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Seek};
use std::mem::MaybeUninit;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::libc;
use nix::sys::memfd::{MFdFlags, memfd_create};

use crate::noise::{Patience, Twins, paired_ratio};

/// One run of a command, from spawn to exit.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    pub wall: Duration,
    /// Peak resident memory in KiB.
    pub peak: u64,
}

/// Runs the command. What it says on stderr is shown if it fails; it goes to memory, as a file that
/// is truncated and written again would be flushed to disk when it is closed, by some run or other.
pub fn run(command: &mut Command) -> Result<Sample> {
    let mut said = File::from(memfd_create(c"stderr", MFdFlags::MFD_CLOEXEC)?);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(said.try_clone()?);
    let start = Instant::now();
    let child = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
    let mut status = 0;
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: both pointers are valid for writing, and nobody else waits for this child.
    let pid = unsafe { libc::wait4(child.id() as i32, &mut status, 0, usage.as_mut_ptr()) };
    let wall = start.elapsed();
    if pid < 0 {
        return Err(std::io::Error::last_os_error()).context("wait4");
    }
    // SAFETY: wait4 succeeded and filled it; all zeros is a value of it too.
    let usage = unsafe { usage.assume_init() };
    let status = ExitStatus::from_raw(status);
    if !status.success() {
        let mut text = String::new();
        said.rewind()?;
        said.take(2000).read_to_string(&mut text)?;
        bail!("{command:?}: {status}\n{text}");
    }
    Ok(Sample { wall, peak: usage.ru_maxrss as u64 })
}

/// How long the kernel took for the command's transaction: the longest send, and the longest close,
/// in which it waits until what the transaction replaced is freed. `None` without strace, which
/// stops the command only before and after a call, so that the call's own time is not distorted.
pub fn commit_time(command: &Command, dir: &Path) -> Result<Option<Duration>> {
    if !installed("strace") {
        return Ok(None);
    }
    let trace = dir.join("strace");
    let mut traced = Command::new("strace");
    traced.args(["-f", "-T", "-s", "0", "-e", "trace=sendto,sendmsg,close", "-o"]).arg(&trace);
    traced.arg("--").arg(command.get_program()).args(command.get_args());
    run(&mut traced)?;
    let trace = std::fs::read_to_string(&trace)?;
    let longest = |call: &str| {
        let calls = trace.lines().filter(|line| line.contains(call));
        calls
            .filter_map(|line| line.rsplit_once('<')?.1.strip_suffix('>')?.parse::<f64>().ok())
            .fold(0.0, f64::max)
    };
    Ok(Some(Duration::from_secs_f64(longest(" send") + longest(" close("))))
}

pub fn installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_else(|| OsString::from("/usr/sbin:/usr/bin"));
    std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
}

/// A competitor: a name, and how to get the machine into the state from which its command is
/// measured (not part of the time).
pub struct Contender<'a> {
    pub name: &'static str,
    /// Takes part in fewer rounds, without one to warm up.
    pub heavy: bool,
    pub prepare: Box<dyn FnMut() -> Result<Command> + 'a>,
}

/// The samples of one contender, by round.
#[derive(Debug)]
pub struct Series {
    pub name: &'static str,
    pub samples: Vec<Sample>,
    /// Time within the kernel's own transaction, of runs apart from the samples.
    pub commit: Option<Duration>,
}

#[derive(Clone, Copy, Debug)]
pub struct Rounds {
    pub quick: usize,
    pub heavy: usize,
    /// How much longer to go on while two identical contenders are not alike.
    pub patience: Duration,
}

/// What is measured of all of them.
pub struct Plan<'a> {
    pub rounds: Rounds,
    /// The kernel's part too, in runs apart.
    pub with_commit: bool,
    /// Which two are identical, if any.
    pub twins: Option<[usize; 2]>,
    pub dir: &'a Path,
}

/// For the rounds of one comparison: on a busy machine there are fewer.
const BUDGET: Duration = Duration::from_secs(100);

/// A B C A B C …: whatever drifts on the machine meets all contenders alike.
pub fn interleave(
    contenders: &mut [Contender],
    plan: &Plan,
) -> Result<(Vec<Series>, Option<Twins>)> {
    let Plan { rounds, dir, .. } = *plan;
    let mut series: Vec<Series> = contenders
        .iter()
        .map(|c| Series { name: c.name, samples: Vec::new(), commit: None })
        .collect();
    let mut commits = vec![Vec::new(); contenders.len()];
    let start = Instant::now();
    let mut patience = Patience::of(rounds.patience);
    for round in 0.. {
        if round > rounds.quick || (round > rounds.heavy && start.elapsed() > BUDGET) {
            let are_alike = twins(&series, plan).is_none_or(|twins| twins.agree());
            if patience.is_over(are_alike) {
                break;
            }
        }
        for (index, contender) in contenders.iter_mut().enumerate() {
            let warming_up = round == 0;
            if contender.heavy && (warming_up || round > rounds.heavy) {
                continue;
            }
            let mut command = (contender.prepare)()?;
            let sample = run(&mut command).with_context(|| contender.name.to_string())?;
            // What the kernel frees in the background is not to disturb the next one.
            std::thread::sleep(Duration::from_millis(20) + sample.wall / 2);
            if warming_up {
                continue;
            }
            series[index].samples.push(sample);
            if plan.with_commit && !contender.heavy && round <= rounds.heavy {
                let command = (contender.prepare)()?;
                commits[index].extend(commit_time(&command, dir)?);
                std::thread::sleep(Duration::from_millis(50));
            }
        }
    }
    for (series, commits) in series.iter_mut().zip(commits) {
        if !commits.is_empty() {
            series.commit = Some(median(commits));
        }
    }
    let twins = twins(&series, plan);
    Ok((series, twins))
}

fn twins(series: &[Series], plan: &Plan) -> Option<Twins> {
    let [one, other] = plan.twins?.map(|index| series[index].walls());
    Some(Twins::of(&one, &other))
}

impl Series {
    pub fn median(&self) -> Duration {
        median(self.walls())
    }

    /// In KiB, the most of all runs.
    pub fn peak(&self) -> u64 {
        self.samples.iter().map(|s| s.peak).max().unwrap_or(0)
    }

    /// The median of the ratios in the rounds that both took part in.
    pub fn ratio_to(&self, base: &Series) -> f64 {
        paired_ratio(&self.walls(), &base.walls())
    }

    fn walls(&self) -> Vec<Duration> {
        self.samples.iter().map(|s| s.wall).collect()
    }
}

/// The upper one of the two in the middle, if there are two.
pub fn median(mut values: Vec<Duration>) -> Duration {
    values.sort();
    values[values.len() / 2]
}
