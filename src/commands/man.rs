//! `portmap man`: the manual, made from the same types as the command line.

mod sections;
mod synopsis;

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Command, CommandFactory};
use clap_mangen::Man;

use crate::cli::{self, Cli};
use crate::commands::failure::{Failure, Result};
use crate::host::dir::Dir;
use crate::host::path;
use crate::host::trust::Caller;
use crate::ui::Ui;

/// portmap-rules(5), the one page that is not about a command.
const RULES: &str = include_str!("../../man/portmap-rules.5");

/// The day on which the text of the manual last changed.
const DATE: &str = "2026-11-29";

pub fn run(ui: &Ui, man: &cli::Man) -> Result {
    match &man.output_dir {
        Some(dir) => write_all(dir)?,
        None => ui.print(page(man.page.as_deref())?)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn page(name: Option<&str>) -> Result<String> {
    let root = root();
    match name {
        None | Some("portmap") => Ok(render(&root, &root)?),
        Some("rules") => Ok(RULES.to_owned()),
        Some(name) => match root.find_subcommand(name) {
            Some(command) => Ok(render(&titled(command), &root)?),
            None => Err(Failure::refused(
                format!("there is no manual page for `{name}`"),
                "name a command, or `rules` for the file format",
            )),
        },
    }
}

/// Into `man8` and `man5`, below a directory that is judged as any other that root writes in. There
/// nothing is followed, and what is there is replaced, not overwritten.
fn write_all(dir: &Path) -> Result<()> {
    let top = Dir::make(dir, Caller::current()).map_err(|e| not_made(dir, e))?;
    let section = |name: &str| top.make_dir(name).map_err(|e| not_made(&dir.join(name), e));
    let (root, man8) = (root(), section("man8")?);
    write(&man8, "portmap.8", &render(&root, &root)?)?;
    for command in root.get_subcommands().filter(|command| !command.is_hide_set()) {
        let name = format!("portmap-{}.8", command.get_name());
        write(&man8, &name, &render(&titled(command), &root)?)?;
    }
    Ok(write(&section("man5")?, "portmap-rules.5", RULES)?)
}

fn not_made(dir: &Path, error: path::Error) -> Failure {
    let distrust = match error {
        path::Error::Distrust(distrust) => distrust,
        path::Error::Io(e) => {
            let doing = format!("make directory {}", dir.display());
            return anyhow::Error::from(e).context(doing).into();
        }
    };
    let elsewhere = || {
        "name a directory that only root may write; or write the pages without root, as the user \
         whose directory it is"
            .into()
    };
    // Whose a directory is to be, portmap cannot know; a link can be passed by.
    let of_link = distrust.remedy().filter(|_| !distrust.is_of_directory());
    let message = format!("{} {distrust}", distrust.path.display());
    Failure::refused(message, of_link.unwrap_or_else(elsewhere))
}

fn write(dir: &Dir, name: &str, text: &str) -> anyhow::Result<()> {
    let temporary = format!(".{name}.tmp");
    let written = || -> io::Result<()> {
        dir.remove(&temporary)?;
        dir.create_new(&temporary, 0o644)?.write_all(text.as_bytes())?;
        dir.rename(&temporary, name)
    };
    written().with_context(|| format!("write {}", dir.path().join(name).display()))
}

/// The whole command line, with the common options known to each command.
fn root() -> Command {
    let mut root =
        Cli::command().subcommand_help_heading("COMMANDS").subcommand_value_name("COMMAND");
    root.build();
    // clap's own `help` command has nothing to tell that the pages do not.
    root.mut_subcommand("help", |help| help.hide(true))
}

/// A command under the name of its page.
fn titled(command: &Command) -> Command {
    command.clone().display_name(format!("portmap-{}", command.get_name()))
}

/// The page of `command`, which is `root` or one of its commands.
fn render(command: &Command, root: &Command) -> anyhow::Result<String> {
    let name = command.get_display_name().unwrap_or("portmap");
    let man = Man::new(command.clone())
        .title(name.to_uppercase())
        .section("8")
        .date(DATE)
        .source(concat!("portmap ", env!("CARGO_PKG_VERSION")))
        .manual("System administration");
    let mut page = Vec::new();
    let mut generated = || {
        man.render_title(&mut page)?;
        man.render_name_section(&mut page)?;
        page.extend_from_slice(synopsis::synopsis(command).as_bytes());
        man.render_description_section(&mut page)?;
        man.render_options_section(&mut page)?;
        if command.has_subcommands() {
            man.render_subcommands_section(&mut page)?;
        }
        std::io::Result::Ok(())
    };
    generated().context("write the manual page")?;
    let mut page = String::from_utf8_lossy(&page).into_owned();
    page.push_str(&sections::written(command, root));
    Ok(page)
}

#[cfg(test)]
mod tests {
    use super::{DATE, RULES, page, root};

    #[test]
    fn every_page_has_the_sections_that_readers_look_for() {
        let root = root();
        let shown = root.get_subcommands().filter(|command| !command.is_hide_set());
        let names = shown.map(|command| command.get_name().to_owned());
        for name in names.chain(["portmap".to_owned()]) {
            let page = page(Some(&name)).unwrap();
            for section in ["EXAMPLES", "EXIT STATUS", "ENVIRONMENT", "FILES", "SEE ALSO"] {
                let heading = [format!(".SH {section}\n"), format!(".SH \"{section}\"\n")];
                assert!(heading.iter().any(|h| page.contains(h)), "{name}: {section}\n{page}");
            }
            let title = page.lines().find(|line| line.starts_with(".TH ")).unwrap();
            assert!(title.contains(&format!(" 8 {DATE} ")), "{title}");
        }
    }

    #[test]
    fn a_synopsis_can_be_typed() {
        let synopsis = |name| {
            let page = page(Some(name)).unwrap();
            let line = page.split_once(".SH SYNOPSIS\n").unwrap().1.lines().next().unwrap();
            line.replace("\\fB", "").replace("\\fI", "").replace("\\fR", "").replace("\\-", "-")
        };
        let run = synopsis("run");
        assert!(run.starts_with("portmap run [--user USER] [-o|--output FORMAT] "), "{run}");
        assert!(run.ends_with(" [--wait TIME] MAPPING... -- COMMAND [ARGUMENT...]"), "{run}");
        let apply = synopsis("apply");
        assert!(apply.contains(" [--confirm TIME] ") && apply.ends_with(" [FILE...]"), "{apply}");
        assert!(synopsis("doctor").contains(" [--rules FILE]... "));
        assert!(synopsis("portmap").ends_with(" COMMAND"));
    }

    #[test]
    fn every_page_that_is_referred_to_is_there() {
        let root = root();
        for name in root.get_subcommands().map(|command| command.get_name()) {
            let page = page(Some(name)).unwrap();
            let (_, references) = page.split_once(".SH \"SEE ALSO\"").unwrap();
            let ours = references.lines().filter_map(|l| l.strip_prefix(".BR portmap\\-"));
            for reference in ours {
                let other = reference.split(' ').next().unwrap();
                assert_ne!(other, name, "refers to itself");
                assert!(other == "rules" || root.find_subcommand(other).is_some(), "{other}");
            }
        }
    }

    #[test]
    fn the_page_of_the_file_bears_the_same_date() {
        assert!(RULES.starts_with(&format!(".TH PORTMAP-RULES 5 {DATE} ")), "man/portmap-rules.5");
    }
}
