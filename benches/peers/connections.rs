//! One connection: direct, through portmap, and through what one would use in its place.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use crate::applies::{self, Applies};
use crate::inputs::{FULL, Mappings, TEN, THOUSAND};
use crate::latency::{self, Effort, Lane};
use crate::limits::{Check, Noise};
use crate::measure::installed;
use crate::noise::Twins;
use crate::report::{Bar, Report, Table, plot, time};

/// The least that makes the kernel track connections, as on every host with a firewall.
const FIREWALL: &str = "\
table inet firewall {
	chain input {
		type filter hook input priority 0; policy accept;
		ct state established,related accept
	}
}
";

const LEANEST: &str = "the leanest rule";
const LEANEST_AGAIN: &str = "the leanest rule, again";
/// Compared with the leanest rule, and with what another portmap makes of it.
const OURS: [(&str, &str, &str); 2] = [
    (
        "portmap, 10 mappings",
        "portmap before, 10 mappings",
        "connection through 10 mappings, of the leanest rule",
    ),
    (
        "portmap, 60,000 mappings",
        "portmap before, 60,000 mappings",
        "connection through 60,000 mappings, of the leanest rule",
    ),
];
const LIMIT: f64 = 1.05;

pub fn measure(quick: bool, applies: &Applies, dir: &Path, report: &mut Report) -> Result<()> {
    let mut missing = Vec::new();
    let mut lanes = lanes(applies, dir, &mut missing)?;
    if !quick {
        lanes.extend(latency::proxies(dir, &mut missing)?);
    }
    let (block, seconds) = (100, Duration::from_secs);
    let effort = match quick {
        true => Effort { rounds: 3, connections: 300, block, patience: seconds(2) },
        false => Effort { rounds: 9, connections: 2000, block, patience: seconds(90) },
    };
    let decisive = |lane: &Lane| {
        [LEANEST, LEANEST_AGAIN].contains(&lane.name)
            || OURS.iter().any(|(now, before, _)| [now, before].contains(&&lane.name))
    };
    let twins = latency::measure(&mut lanes, &effort, decisive, [LEANEST, LEANEST_AGAIN])?;
    tell(&lanes, twins, &effort, &missing, report);
    users(quick, applies, dir, report)
}

const WITHOUT: &str = "without `user`";
const WITHOUT_AGAIN: &str = "without `user`, again";
const WITH: &str = "with `user`";

/// A connection whose answer is looked up by its user, against one through the same mapping without.
/// They are so nearly the same that single connections are made in turn: whatever else the machine
/// does meanwhile, it does to both.
fn users(quick: bool, applies: &Applies, dir: &Path, report: &mut Report) -> Result<()> {
    let mapped = |name: &'static str, user| {
        let file = dir.join(format!("latency-{}.yaml", name.replace([' ', '`'], "-")));
        Mappings { user, ..Mappings::new(TEN) }.yaml(&file)?;
        Lane::mapped(name, applies.fresh(&file))
    };
    // The servers are this process's.
    let user = nix::unistd::geteuid().as_raw();
    let mut lanes =
        [mapped(WITHOUT, None)?, mapped(WITH, Some(user))?, mapped(WITHOUT_AGAIN, None)?];
    let (connections, block) = (100, 1);
    let effort = match quick {
        true => Effort { rounds: 20, connections, block, patience: Duration::from_secs(4) },
        false => Effort { rounds: 120, connections, block, patience: Duration::from_secs(60) },
    };
    let twins = latency::measure(&mut lanes, &effort, |_| true, [WITHOUT, WITHOUT_AGAIN])?;
    let [without, with, _] = &lanes;
    let row = |lane: &Lane| {
        let ratio = format!("{:.2}", lane.ratio_to(without));
        vec![lane.name.to_string(), time(lane.median()), time(lane.ninety_ninth()), ratio]
    };
    let table = Table {
        head: vec!["connection through 10 mappings", "median", "99th percentile", "of without"],
        rows: lanes.iter().map(row).collect(),
    };
    report.section(
        "Only one user may answer",
        &format!(
            "As above, through mappings that let only one user answer and through the same \
             mappings without: {} single connections of each, in turn, in each of {} rounds.",
            effort.connections,
            with.rounds(),
        ),
        &table,
    );
    let value = with.ratio_to(without);
    let noise = Some(Noise { twins, of: value });
    let what = "connection with `user`, of the same without";
    report.checks.push(Check { what, value, limit: LIMIT, unit: "", noise });
    Ok(())
}

fn lanes(applies: &Applies, dir: &Path, missing: &mut Vec<&'static str>) -> Result<Vec<Lane>> {
    let nft = |name: &str, write: &dyn Fn(&Path) -> std::io::Result<()>| -> Result<Command> {
        let file = dir.join(name);
        write(&file)?;
        Ok(applies::nft(&file))
    };
    let leanest = || nft("leanest.nft", &|file| Mappings::leanest(latency::PORT, file));
    let ten = dir.join("latency-10.yaml");
    Mappings::new(TEN).yaml(&ten)?;
    let full = dir.join("latency-60000.yaml");
    Mappings::new(FULL).yaml(&full)?;
    let [(ours_ten, before_ten, _), (ours_full, before_full, _)] = OURS;
    let mut lanes = vec![
        Lane::beside("direct", nft("firewall.nft", &|file| fs::write(file, FIREWALL))?)?,
        Lane::direct("direct, untracked")?,
        Lane::beside("direct, past 60,000 mappings", applies.fresh(&full))?,
        Lane::mapped(LEANEST, leanest()?)?,
        Lane::mapped(ours_ten, applies.fresh(&ten))?,
        Lane::mapped(ours_full, applies.fresh(&full))?,
        Lane::mapped(LEANEST_AGAIN, leanest()?)?,
    ];
    if let Some(before) = applies.before {
        lanes.push(Lane::mapped(before_ten, applies.fresh_of(before, &ten))?);
        lanes.push(Lane::mapped(before_full, applies.fresh_of(before, &full))?);
    }
    let map = nft("latency-map.nft", &|file| Mappings::new(FULL).nft_map(file))?;
    lanes.push(Lane::mapped("nft map, 60,000 elements", map)?);
    let rules = nft("latency-rules.nft", &|file| Mappings::new(THOUSAND).nft_rules(file))?;
    lanes.push(Lane::mapped("nft, 1,000 rules", rules)?);
    let file = dir.join("latency.iptables");
    Mappings::new(THOUSAND).iptables(&file)?;
    for (name, program) in applies::IPTABLES_LATENCY {
        match installed(program) {
            true => lanes.push(Lane::mapped(name, applies::iptables(program, &file, dir))?),
            false => missing.push(program),
        }
    }
    Ok(lanes)
}

fn tell(lanes: &[Lane], twins: Twins, effort: &Effort, missing: &[&str], report: &mut Report) {
    let lane = |name| lanes.iter().find(|lane| lane.name == name);
    let leanest = lane(LEANEST).expect("a lane that was measured");
    let row = |lane: &Lane| {
        vec![
            lane.name.to_string(),
            time(lane.median()),
            time(lane.ninety_ninth()),
            format!("{:.2}", lane.ratio_to(&lanes[0])),
            format!("{:.2}", lane.ratio_to(leanest)),
        ]
    };
    let table = Table {
        head: vec!["connection", "median", "99th percentile", "of direct", "of leanest"],
        rows: lanes.iter().map(row).collect(),
    };
    report.section(
        "One connection",
        &format!(
            "A client in another namespace connects over a veth link (IPv4), sends one byte and \
             waits until it comes back; {} times in each of {} rounds ({} of those that the limits \
             are about), in turns of 100. Direct: to the server's own port, on a host with a \
             stateful firewall of one rule; untracked: on a host without any rule, so that the \
             kernel does not even track connections, which every translation needs. The leanest \
             rule is `tcp dport 1000 dnat to :{}`, alone in its chain; it is measured twice, to \
             see how much the machine can tell. With rules the client connects to the last of \
             them. A proxy runs beside the server, as it comes (but with its log off), and passes \
             the connection on over loopback.{}",
            effort.connections,
            effort.rounds,
            leanest.rounds(),
            crate::inputs::target(latency::PORT),
            crate::note(missing)
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
    for (now, before, what) in OURS {
        let now = lane(now).expect("a lane that was measured");
        let value = now.ratio_to(leanest);
        let noise = Some(Noise { twins, of: value });
        report.checks.push(Check { what, value, limit: LIMIT, unit: "", noise });
        if let Some(before) = lane(before) {
            let what = format!("one connection: {}", now.name);
            report.compare(&what, before.median(), now.median(), now.ratio_to(before));
        }
    }
}
