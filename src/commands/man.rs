//! `portmap man`: the manual, made from the same types as the command line.

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Command, CommandFactory};
use clap_mangen::Man;

use crate::cli::{self, Cli};
use crate::commands::failure::Refusal;
use crate::output::Ui;

/// portmap-rules(5), the one page that is not about a command.
const RULES: &str = include_str!("../../man/portmap-rules.5");

pub fn run(ui: &Ui, man: &cli::Man) -> Result<ExitCode> {
    match &man.output_dir {
        Some(dir) => write_all(dir)?,
        None => ui.print(page(man.page.as_deref())?)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn page(name: Option<&str>) -> Result<String> {
    let root = root();
    match name {
        None | Some("portmap") => render(&root),
        Some("rules") => Ok(RULES.to_owned()),
        Some(name) => match root.find_subcommand(name) {
            Some(command) => render(&titled(command)),
            None => Err(Refusal::new(
                format!("there is no manual page for `{name}`"),
                "name a command, or `rules` for the file format",
            )
            .into()),
        },
    }
}

fn write_all(dir: &Path) -> Result<()> {
    let root = root();
    write(&dir.join("man1"), "portmap.1", &render(&root)?)?;
    for command in root.get_subcommands() {
        let name = format!("portmap-{}.1", command.get_name());
        write(&dir.join("man1"), &name, &render(&titled(command))?)?;
    }
    write(&dir.join("man5"), "portmap-rules.5", RULES)
}

fn write(dir: &Path, name: &str, text: &str) -> Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("make directory {}", dir.display()))?;
    let path = dir.join(name);
    fs::write(&path, text).with_context(|| format!("write {}", path.display()))
}

/// The whole command line, with the common options known to each command.
fn root() -> Command {
    let mut root = Cli::command();
    root.build();
    root
}

/// A command under the name of its page.
fn titled(command: &Command) -> Command {
    command.clone().display_name(format!("portmap-{}", command.get_name()))
}

fn render(command: &Command) -> Result<String> {
    let mut page = Vec::new();
    let name = command.get_display_name().unwrap_or("portmap").to_owned();
    Man::new(command.clone())
        .title(name.to_uppercase())
        .render(&mut page)
        .context("write the manual page")?;
    Ok(String::from_utf8_lossy(&page).into_owned())
}
