//! `portmap doctor`: why does it not answer?

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::cli::{self, Common};
use crate::commands::failure::Result;
use crate::commands::{engine, input, probe, services};
use crate::doctor::examine::{Examination, examine};
use crate::doctor::facts::{Boot, Facts, Files, Guard, Subject, Sysctls, Table};
use crate::doctor::foresee::{self, Firewalls};
use crate::engine::{Condition, Engine};
use crate::firewall::Rulesets;
use crate::formats::rules::{self, Names};
use crate::host::boot::{AtBoot, System};
use crate::host::files::{self, DIRECTORY};
use crate::host::network::{self, Interface};
use crate::host::services::Services;
use crate::host::trust::Caller;
use crate::host::{capabilities, sysctls, user};
use crate::kernel::held::given;
use crate::kernel::trace::{self, Tracer};
use crate::kernel::{Netlink, firewall};
use crate::mapping::MappingSet;
use crate::ui::Ui;

pub fn run(ui: &Ui, common: &Common, doctor: &cli::Doctor) -> Result {
    with(ui, common, doctor, Tracer::open)
}

/// The same with another tracer for a probe.
pub fn with(ui: &Ui, common: &Common, doctor: &cli::Doctor, open: trace::Open) -> Result {
    let examination = look_at_everything(ui, common, doctor)?;
    // One document is all that a program wants to read.
    if !(doctor.probe && ui.is_json()) {
        ui.doctor(&examination, !doctor.ports.is_empty())?;
    }
    let is_served =
        !doctor.probe || probe::run(ui, common, &doctor.ports, &examination, doctor.yes, open)?;
    let is_sound = examination.is_healthy() && is_served;
    Ok(if is_sound { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What can be told without touching anything.
fn look_at_everything(ui: &Ui, common: &Common, doctor: &cli::Doctor) -> Result<Examination> {
    let rules = named_rules(ui, &doctor.rules)?;
    let (mut engine, condition) = look(ui, common)?;
    let files = default_files();
    let subject = if rules.is_some() { Subject::Rules } else { Subject::Active };
    let mapping = match (rules, &condition.table) {
        (Some(rules), _) => rules,
        // Somebody who may not look at the kernel is told of what is meant to be there.
        (None, Table::Unseen { .. } | Table::Impossible { .. }) => {
            files.mapping.clone().unwrap_or_default()
        }
        (None, _) => (*condition.serving).clone(),
    };
    let asked = match doctor.ports.as_slice() {
        [] => Vec::new(),
        ports => services::named(ports, &mapping)?,
    };
    let mut around = match &mut engine {
        Some(engine) => ui.timed("look at this host", || engine.surroundings(&mapping, &asked)),
        None => foresee::Facts::unseen(),
    };
    around.firewalls = firewalls(ui, &around.interfaces);
    let facts = Facts {
        asked,
        thorough: common.verbose,
        mapping,
        subject,
        table: condition.table,
        lost: condition.lost,
        around,
        boot: at_boot(common, condition.boot),
        guard: Guard { pid: condition.guard, is_wanted: System::default().starts_guard() },
        files,
        sysctls: Sysctls {
            unprivileged_start: sysctls::unprivileged_start(),
            ephemeral: sysctls::ephemeral(),
            reserved: sysctls::reserved(),
            conntrack: sysctls::conntrack(),
        },
        capable: capabilities::interpreters().iter().map(|p| p.display().to_string()).collect(),
        problems: condition.problems,
    };
    Ok(examine(&facts))
}

/// The engine, unless the kernel has nothing for it, and what is active.
fn look<'u>(ui: &'u Ui, common: &Common) -> Result<(Option<Engine<'u, Netlink>>, Condition)> {
    match Netlink::open() {
        Ok(kernel) => {
            let mut engine = engine::on(kernel, ui, common);
            let condition = engine.condition()?;
            Ok((Some(engine), condition))
        }
        Err(error) => match Condition::of_failure(&error) {
            Some(condition) => Ok((None, condition)),
            None => Err(error.into()),
        },
    }
}

fn firewalls(ui: &Ui, interfaces: &[Interface]) -> Firewalls {
    let (rulesets, unseen) = match ui.timed("read all rules", firewall::read) {
        Ok(rulesets) => (rulesets, None),
        Err(e) => (Rulesets::default(), Some(e.to_string())),
    };
    Firewalls { rulesets, indexes: network::indexes(interfaces), unseen }
}

fn named_rules(ui: &Ui, files: &[PathBuf]) -> Result<Option<MappingSet>> {
    if files.is_empty() {
        return Ok(None);
    }
    let input = cli::Input { files: files.to_vec(), strict: false };
    Ok(Some(input::read(ui, &input).resolve(ui, false)?.mapping))
}

/// What the default directory says, whoever may write there, and why it is not believed.
fn default_files() -> Files {
    let mut found = Files { directory: DIRECTORY.to_owned(), ..Files::default() };
    if !Path::new(DIRECTORY).exists() {
        return found;
    }
    // An ordinary user's own portmap could do no harm, and so believes anybody.
    let anybody = files::gather(&[], Caller::Ordinary, &given);
    let believed = files::gather(&[], Caller::current(), &given);
    let distrust = believed.diagnostics.into_iter().filter(|d| !anybody.diagnostics.contains(d));
    found.distrust = distrust
        .map(|d| {
            let file = d.place.as_ref().map(|place| format!("{}: ", place.file));
            (file.unwrap_or_default() + &d.message, d.help)
        })
        .collect();
    if anybody.diagnostics.is_empty() && !anybody.sources.is_empty() {
        let services = Services::default();
        let names = Names {
            services: &|name, protocol| services.lookup(name, protocol),
            users: &|name| user::find(name),
        };
        found.mapping = rules::load(&anybody.sources, &files::facts(), names).mappings;
    }
    found
}

fn at_boot(common: &Common, boot: Boot) -> Boot {
    let system = System::default();
    let AtBoot { restores, applies } = system.at_boot(&common.state_dir);
    Boot {
        applies: applies.is_some(),
        missing: restores.err().map(|missing| (missing.to_string(), missing.help())),
        flushers: system.flushers(),
        ..boot
    }
}
