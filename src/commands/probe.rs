//! Real connections to mapped ports, from here and from outside: what each client gets, and, where
//! that is nothing, which rule decided.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, IsTerminal};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Instant;

use crate::cli::Common;
use crate::commands::engine;
use crate::commands::failure::{Failure, Result};
use crate::commands::services;
use crate::doctor::examine::Examination;
use crate::host::probe::{self, Kept};
use crate::host::signals::EndSignals;
use crate::host::threads;
use crate::kernel::firewall;
use crate::kernel::outside::{Outside, OutsideError};
use crate::kernel::trace::{self, Tracer, chart};
use crate::mapping::{MappingSet, Protocol, Service};
use crate::story::probe::{Got, Path, Probed, Side};
use crate::story::{Chart, Origin, Story, Teller};
use crate::ui::Ui;
use crate::ui::probe::{Plan, Result as Tried};
use anyhow::Context;
use ipnet::IpNet;

/// Paths tried, at most: as many connections are followed at once.
const PATHS_MAX: usize = 96;

/// Says what it is going to do and, unless `agreed`, asks. Whether every client was served.
/// What each client gets is told beside what was to be expected of the rules.
pub fn run(
    ui: &Ui,
    common: &Common,
    ports: &[String],
    examination: &Examination,
    agreed: bool,
    open_tracer: trace::Open,
) -> Result<bool> {
    let mut engine = engine::open(ui, common)?;
    let mapping = engine.serving()?;
    let services = services::named(ports, &mapping)?;
    if services.is_empty() {
        return Err(Failure::refused(
            "nothing is mapped, so there is no port to try",
            "map one first: portmap apply 80:3000",
        ));
    }
    let networks = probe::unused_networks().context("look for unused networks")?;
    let own = probe::own_addresses().context("read this host's addresses")?;
    let (paths, unsure) = paths(&services, &mapping, &own);
    let left_out = paths.len().saturating_sub(PATHS_MAX);
    let paths = &paths[..paths.len() - left_out];
    let outside = addresses(paths);
    let plan = Plan {
        services: &services,
        networks: &networks,
        paths: paths.len(),
        has_outside: !outside.is_empty(),
        left_out,
    };
    if !may_connect(ui, agreed, &plan)? {
        ui.say("nothing was tried: the probe was not agreed to")?;
        return Ok(false);
    }
    engine.sweep_traces();
    // Before the table is made: where it has no owner, it is this process that removes it.
    let signals = EndSignals::block_unless_ignored().context("wait for signals")?;
    let mut tracer = open_tracer(&services)?;
    signals.end_after(tracer.last_work());
    let (outside, outside_error) = match open(&networks, &outside) {
        Ok(outside) => (outside, None),
        Err(error) => (None, Some((error.to_string(), error.help()))),
    };
    let tried = ui.timed("connect", || connect(paths, outside));
    let tried = explain(&mut tracer, tried, &mapping)?;
    // Before anything is said: whoever reads may take its time.
    drop(tracer);
    ui.probed(&plan, &tried, examination, &unsure, outside_error.as_ref())?;
    Ok(!tried.iter().any(|tried| tried.probed.is_served() == Some(false)))
}

/// Says what is going to be done, and asks.
fn may_connect(ui: &Ui, agreed: bool, plan: &Plan<'_>) -> Result<bool> {
    ui.probe_plan(plan)?;
    if agreed {
        return Ok(true);
    }
    if ui.is_json() || !io::stdin().is_terminal() {
        return Err(Failure::Usage {
            message: "the probe makes real connections, and nobody is here to agree".to_owned(),
            help: "agree beforehand: --yes".to_owned(),
        });
    }
    Ok(ui.agree()?)
}

/// The paths for which a mapping is meant, and the services for some of whose clients a probe
/// cannot speak.
fn paths(services: &[Service], mapping: &MappingSet, own: &[IpAddr]) -> (Vec<Path>, Vec<Service>) {
    let loopback: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    let has_ipv6 = own.iter().any(IpAddr::is_ipv6);
    let reachable = own.iter().filter(|address| !address.is_loopback());
    let here = loopback.iter().filter(|a| a.is_ipv4() || has_ipv6).chain(reachable.clone());
    let ways: Vec<_> = here
        .map(|address| (Side::Here, *address))
        .chain(reachable.map(|address| (Side::Outside, *address)))
        .collect();
    let (mut paths, mut unsure) = (Vec::new(), Vec::new());
    for service in services {
        for (side, address) in &ways {
            let path = Path { service: *service, side: *side, address: *address };
            let mappings = mapping.of(*service);
            match path.is_meant(mappings) {
                Some(true) => paths.push(path),
                // What is not mapped was asked for by name.
                Some(false) if mappings.is_empty() => paths.push(path),
                Some(false) => {}
                None => unsure.push(*service),
            }
        }
    }
    unsure.dedup();
    (paths, unsure)
}

/// Who connects from outside, if anybody is to.
fn open(networks: &[IpNet], own: &[IpAddr]) -> std::result::Result<Option<Outside>, OutsideError> {
    match own.is_empty() {
        true => Ok(None),
        false => Outside::open(networks, own).map(Some),
    }
}

/// Those that are tried from outside.
fn addresses(paths: &[Path]) -> Vec<IpAddr> {
    let outside = paths.iter().filter(|path| path.side == Side::Outside);
    let addresses: BTreeSet<_> = outside.map(|path| path.address).collect();
    addresses.into_iter().collect()
}

/// A path, our own end of the connection, if there was one, and what the client got.
type Try = (Path, Option<SocketAddr>, Got);

/// Tries all paths at the same time, and those once more, one after the other, whose connection the
/// program did not take: it may serve one client at a time. The other namespace ends with this.
fn connect(paths: &[Path], outside: Option<Outside>) -> Vec<Try> {
    let mut tries = at_once(paths, outside.as_ref());
    // Whose program takes none that comes alone either.
    let mut idle = BTreeSet::new();
    for one in tries.iter_mut().filter(|(_, _, got)| *got == Got::NotTaken) {
        let path = one.0;
        if idle.contains(&(path.service, path.side)) {
            continue;
        }
        *one = at_once(&[path], outside.as_ref()).pop().unwrap_or_else(|| one.clone());
        if one.2 == Got::NotTaken {
            idle.insert((path.service, path.side));
        }
    }
    tries
}

/// All connections are closed at the end.
fn at_once(paths: &[Path], outside: Option<&Outside>) -> Vec<Try> {
    let of = |side| -> Vec<Path> { paths.iter().filter(|p| p.side == side).copied().collect() };
    let targets = |paths: &[Path]| -> Vec<(Protocol, SocketAddr)> {
        paths.iter().map(|path| (path.service.protocol, path.to())).collect()
    };
    let (here, mut there) = (of(Side::Here), of(Side::Outside));
    there.retain(|path| outside.is_some_and(|o| o.reaches(path.address)));
    let (from_here, from_there) = (targets(&here), targets(&there));
    let (mut attempts, others) = threads::at_once(
        || probe::attempt_all(&from_here),
        || outside.and_then(|o| o.run(move || probe::attempt_all(&from_there))),
    );
    attempts.extend(others.unwrap_or_default());
    let looks = probe::look_at(&mut attempts);
    let paths = here.into_iter().chain(there);
    paths
        .zip(attempts)
        .zip(looks)
        .map(|((path, attempt), (taken, kept))| {
            let got = got(&attempt.got, taken, kept);
            (path, attempt.client, got)
        })
        .collect()
}

fn got(got: &probe::Got, taken: Option<bool>, kept: Option<Kept>) -> Got {
    match (got, taken, kept) {
        (probe::Got::Connected, _, Some(Kept::Reset)) => Got::Reset,
        (probe::Got::Connected, Some(false), Some(Kept::Open)) => Got::NotTaken,
        (probe::Got::Connected, _, Some(Kept::Closed)) => Got::Closed,
        (probe::Got::Connected | probe::Got::Answered, ..) => Got::Answered,
        (probe::Got::Refused, ..) => Got::Refused,
        (probe::Got::Silence, ..) => Got::Silence,
        (probe::Got::Unreachable, ..) => Got::Unreachable,
        (probe::Got::Failed(why), ..) => Got::Failed(why.clone()),
    }
}

/// Finds the story of each attempt.
fn explain(tracer: &mut Tracer, tries: Vec<Try>, mapping: &MappingSet) -> Result<Vec<Tried>> {
    let mut teller = Teller::new(tracer.table().to_string());
    let now = Instant::now();
    for event in tracer.listen()?.events {
        teller.hear(event, now);
    }
    // By port: of a refused connection the socket knows no address any more.
    let key = |story: &Story| {
        let side = if story.origin == Origin::Here { Side::Here } else { Side::Outside };
        (story.protocol, side, story.asked, story.client.port())
    };
    let mut stories: BTreeMap<_, _> =
        teller.rest().into_iter().map(|story| (key(&story), story)).collect();
    // Without the text of its rules a story can be told all the same.
    let rules = firewall::read().ok();
    let mut tried = Vec::new();
    for (path, client, got) in tries {
        let port = client.map_or(0, |client| client.port());
        let key = (path.service.protocol, path.side, path.to(), port);
        let story = stories.remove(&key);
        let chart = match &story {
            Some(story) => {
                let chart = rules.as_ref().map(|all| chart(all, story, mapping));
                chart.unwrap_or_default()
            }
            None => Chart::default(),
        };
        let listeners = story.as_ref().map(services::listeners).unwrap_or_default();
        tried.push(Tried { probed: Probed { path, got, story }, chart, listeners });
    }
    Ok(tried)
}
