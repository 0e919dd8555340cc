//! How soon the kernel is as it should be: after a flush while a guard runs, and after the end of a
//! command that `portmap run` started.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::applies::{Applies, apply, command};
use crate::inputs::{Mappings, TEN};
use crate::limits::Check;
use crate::measure::run;
use crate::namespace::Namespace;
use crate::report::{Report, Table, time};

/// In milliseconds, of nine in ten.
const SOON: f64 = 100.0;

pub fn measure(
    applies: &Applies,
    portmap: &Path,
    dir: &Path,
    quick: bool,
    report: &mut Report,
) -> Result<()> {
    let rounds = if quick { 5 } else { 40 };
    let repairs = repairs(applies, portmap, dir, rounds)?;
    let ends = (0..rounds).map(|_| end_of_run(portmap)).collect::<Result<Vec<_>>>()?;
    let mut rows = Vec::new();
    let mut judge = |name: &str, what: &'static str, mut times: Vec<Duration>| {
        times.sort_unstable();
        let nine_in_ten = times[(times.len() * 9).div_ceil(10) - 1];
        let middle = times[times.len() / 2];
        let last = times[times.len() - 1];
        rows.push(vec![name.to_owned(), time(middle), time(nine_in_ten), time(last)]);
        let value = nine_in_ten.as_secs_f64() * 1e3;
        report.checks.push(Check { what, value, limit: SOON, unit: " ms", noise: None });
    };
    judge("flush, with a guard", "a guard puts 10 mappings back, nine times in ten", repairs);
    judge("end of the command of a run", "the mapping of a run is gone, nine times in ten", ends);
    let text = format!(
        "{rounds} times each: from the end of `nft flush ruleset` until the guard says that the \
         mapping is back, and from the kill of a command until `nft list tables` shows nothing of \
         its run any more."
    );
    let head = vec!["after", "median", "nine in ten", "longest"];
    report.section("How soon is it right again?", &text, &Table { head, rows });
    Ok(())
}

/// Ended when this is dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn repairs(applies: &Applies, portmap: &Path, dir: &Path, rounds: usize) -> Result<Vec<Duration>> {
    let _host = Namespace::enter_new()?;
    let (yaml, state) = (dir.join("aftermath.yaml"), applies.state());
    Mappings::new(TEN).yaml(&yaml)?;
    apply(&mut command(portmap, &yaml, &state))?;
    let mut guard = Command::new(portmap);
    guard.args(["-o", "json", "guard", "--state-dir"]).arg(&state);
    let mut guard = Running(guard.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?);
    let mut says = BufReader::new(guard.0.stdout.take().context("no output of the guard")?);
    says_next(&mut says, "guarding")?;
    let mut flushed = || -> Result<Duration> {
        run(Command::new("nft").args(["flush", "ruleset"]))?;
        let start = Instant::now();
        says_next(&mut says, "put-back")?;
        let took = start.elapsed();
        // Not so often that the guard takes it for a program that never stops.
        std::thread::sleep(Duration::from_millis(1050));
        Ok(took)
    };
    (0..rounds).map(|_| flushed()).collect()
}

fn says_next(guard: &mut BufReader<ChildStdout>, event: &str) -> Result<()> {
    let mut line = String::new();
    guard.read_line(&mut line)?;
    match line.contains(&format!("\"event\":\"{event}\"")) {
        true => Ok(()),
        false => bail!("the guard says {line:?}, and not {event}"),
    }
}

fn end_of_run(portmap: &Path) -> Result<Duration> {
    let _host = Namespace::enter_new()?;
    let has_table = || -> Result<bool> {
        let tables = Command::new("nft").args(["list", "tables"]).output()?;
        Ok(String::from_utf8_lossy(&tables.stdout).contains("portmap-run-"))
    };
    let wait_for = |there: bool| -> Result<()> {
        let start = Instant::now();
        while has_table()? != there {
            if start.elapsed() > Duration::from_secs(10) {
                bail!(
                    "the table of the run is {}",
                    if there { "not there" } else { "still there" }
                );
            }
        }
        Ok(())
    };
    let mut run = Command::new(portmap);
    run.args(["run", "80:3000", "--user", "root", "--", "sleep", "60"]).stderr(Stdio::null());
    let run = Running(run.spawn()?);
    wait_for(true)?;
    let start = Instant::now();
    drop(run);
    wait_for(false)?;
    Ok(start.elapsed())
}
