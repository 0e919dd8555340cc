//! Under whose privileges portmap was started.

use std::process::ExitCode;

use clap::builder::Resettable;
use clap::{CommandFactory, FromArgMatches};
use nix::unistd::Uid;

use crate::cli::Cli;
use crate::host::environment;
use crate::kernel::secure;
use crate::ui::{Settings, Ui};

/// To be called first. An exit code, if portmap is not to run at all.
///
/// Set-user-ID, it would give every user what only root may do. With capabilities of its file
/// (setcap(8)) an administrator gives it to whoever may execute it; but the environment is then
/// that of somebody with fewer privileges. Where root starts it and a security module asks for
/// care, as SELinux does for services, nothing was gained.
pub fn begin() -> Option<ExitCode> {
    if !secure::is_secure_execution() || Uid::current().is_root() {
        return None;
    }
    if Uid::effective().is_root() {
        Ui::new(Settings::default()).error(
            "portmap is installed set-user-ID root, so that every user could change the ports of \
             this host: it refuses to run",
            Some("run `chmod u-s` on the program as root, and let users in with sudo"),
        );
        return Some(ExitCode::FAILURE);
    }
    environment::distrust();
    None
}

/// This process's command line; the environment, for options that are not given, only if it is
/// believed.
pub fn read() -> Result<Cli, clap::Error> {
    let mut command = Cli::command();
    if !environment::is_believed() {
        command = command.mut_arg("state_dir", |dir| dir.env(Resettable::Reset));
    }
    let mut matches = command.clone().try_get_matches()?;
    Cli::from_arg_matches_mut(&mut matches).map_err(|e| e.format(&mut command))
}
