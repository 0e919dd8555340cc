//! `portmap trace`: the next new connections, and what became of them.

use std::os::fd::AsFd;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::cli::{self, Common};
use crate::commands::engine;
use crate::commands::failure::{Failure, Result};
use crate::commands::services;
use crate::host::signals::EndSignals;
use crate::kernel::firewall;
use crate::kernel::trace::{Open, Tracer, chart};
use crate::mapping::{MappingSet, Service, words};
use crate::story::{Chart, Story, Teller};
use crate::ui::Ui;
use crate::ui::trace::{Told, Traced};

pub fn run(ui: &Ui, common: &Common, trace: &cli::Trace) -> Result {
    with(ui, common, trace, Tracer::open)
}

/// The same with another tracer.
pub fn with(ui: &Ui, common: &Common, trace: &cli::Trace, open: Open) -> Result {
    let mut engine = engine::open(ui, common)?;
    let mapping = engine.serving()?;
    let services = services::named(&trace.ports, &mapping)?;
    if services.is_empty() {
        return Err(Failure::refused(
            "nothing is mapped, so there is no port to trace",
            "name one: portmap trace 80; or map one first: portmap apply 80:3000",
        ));
    }
    engine.sweep_traces();
    // Before the table is made: where it has no owner, it is this process that removes it.
    let signals = EndSignals::block().context("wait for signals")?;
    let tracer = open(&services)?;
    let mut watch = Watch {
        teller: Teller::new(tracer.table().to_string()),
        tracer,
        signals,
        end: Instant::now() + trace.timeout,
        is_incomplete: false,
    };
    let wanted = trace.count.get() as usize;
    ui.tracing(&services, trace.timeout);
    let mut told = Vec::new();
    let mut is_interrupted = false;
    while told.len() < wanted {
        match watch.next().context("trace")? {
            Next::Stories(stories) => {
                for story in stories.into_iter().take(wanted - told.len()) {
                    told.push(tell(ui, story, &mapping)?);
                }
            }
            Next::Interrupted => {
                is_interrupted = true;
                break;
            }
            Next::TimeIsUp => break,
        }
    }
    let traced = Traced {
        services: &services,
        told,
        heard: watch.teller.heard(),
        is_incomplete: watch.is_incomplete,
        is_interrupted,
    };
    ui.traced(&traced)?;
    let is_told = !traced.told.is_empty();
    if is_told || is_interrupted || ui.is_json() {
        return Ok(if is_told { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    Err(nothing(&services, trace.timeout))
}

/// With the chains and rules that it names, as they are in the kernel now.
fn tell(ui: &Ui, story: Story, mapping: &MappingSet) -> Result<Told> {
    // Without the text of its rules a story can be told all the same.
    let rules = firewall::read();
    let chart = rules.map_or_else(|_| Chart::default(), |all| chart(&all, &story, mapping));
    let told = Told { listeners: services::listeners(&story), story, chart };
    ui.story(&told)?;
    Ok(told)
}

struct Watch {
    tracer: Tracer,
    teller: Teller,
    signals: EndSignals,
    end: Instant,
    is_incomplete: bool,
}

enum Next {
    Stories(Vec<Story>),
    Interrupted,
    TimeIsUp,
}

impl Watch {
    /// Waits until there is something to tell, or no time left. Stories that have begun are told
    /// even so.
    fn next(&mut self) -> anyhow::Result<Next> {
        loop {
            let heard = self.tracer.listen()?;
            let now = Instant::now();
            self.is_incomplete |= heard.is_incomplete;
            heard.events.into_iter().for_each(|event| self.teller.hear(event, now));
            let stories = self.teller.ready(now);
            if !stories.is_empty() {
                return Ok(Next::Stories(stories));
            }
            if now >= self.end {
                let rest = self.teller.rest();
                return Ok(if rest.is_empty() { Next::TimeIsUp } else { Next::Stories(rest) });
            }
            let deadline = self.teller.next_deadline().map_or(self.end, |at| at.min(self.end));
            if self.wait(deadline.saturating_duration_since(now))? {
                return Ok(Next::Interrupted);
            }
        }
    }

    /// Whether the user has had enough.
    fn wait(&self, time: Duration) -> nix::Result<bool> {
        let mut fds = [
            PollFd::new(self.tracer.fd(), PollFlags::POLLIN),
            PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
        ];
        // A poll of 0 ms would be a busy wait for the last one.
        let time =
            PollTimeout::try_from(time + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX);
        match poll(&mut fds, time) {
            Ok(_) | Err(Errno::EINTR) => Ok(fds[1].any().unwrap_or(false)),
            Err(errno) => Err(errno),
        }
    }
}

fn nothing(services: &[Service], time: Duration) -> Failure {
    let names = words::services(services);
    Failure::refused(
        format!(
            "no new connection to {names} of this host arrived within {}",
            humantime::format_duration(time)
        ),
        "connect from another machine while portmap waits. If that is not seen either, the packets \
         do not come as far as this host's prerouting hook: look at a firewall in front of it (a \
         cloud's security group), at netdev tables (`nft list tables netdev`) and XDP programs \
         (`ip link`), and at the address that the name resolves to",
    )
}
