//! The command line, as types. Everything a user may type is here, and nothing else.

#![forbid(unsafe_code)]

mod boot;
mod change;
mod common;
mod guard;
mod history;
mod input;
mod inspect;
mod pages;
mod run;
mod schema;
mod values;

use clap::{Parser, Subcommand};

pub use boot::{Persist, Restore};
pub use change::{Apply, Clear, Confirm, Rollback};
pub use common::Common;
pub use guard::Guard;
pub use history::HistoryArgs;
use input::STRICT_ON_HOST;
pub use input::{Input, Plan, Render, Script};
pub use inspect::{Doctor, Show, Status, Trace};
pub use pages::{Completions, Man};
pub use run::Run;
pub use schema::{Document, Schema};
pub use values::{Color, Format};
#[cfg(fuzzing)]
pub use values::{parse_generation, parse_interval, parse_time, parse_trial_time};

/// Serve privileged ports from an ordinary user's process.
///
/// A YAML file says `80: 3000`; portmap makes the kernel send port 80 of this host to port 3000,
/// for IPv4 and IPv6, for clients outside and on this machine, and touches nothing else.
#[derive(Debug, Parser)]
#[command(
    name = "portmap",
    version,
    propagate_version = true,
    arg_required_else_help = true,
    after_help = "\
Examples:
  portmap check rules.yaml                 look for mistakes; needs no privilege
  sudo portmap apply rules.yaml            make the kernel match the file
  sudo portmap apply --confirm 60s new.yaml    reverted automatically unless confirmed
  sudo portmap status                      what is active, with counters
  sudo portmap rollback                    back to the mapping before

A rules file:
  ports:
    80: 3000
    443: 8443

See portmap(8), and portmap-rules(5) for the file."
)]
pub struct Cli {
    #[command(flatten)]
    pub common: Common,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Look for mistakes in rules files; needs no privilege.
    #[command(
        alias = "validate",
        after_help = "\
Examples:
  portmap check rules.yaml
  portmap check --strict web.yaml mail.yaml
  portmap check                            the files in /etc/portmap
  generate-rules | portmap check -"
    )]
    Check(Input),
    /// Print the equivalent nft script or iptables-restore input; needs no privilege.
    #[command(after_help = "\
Examples:
  portmap render rules.yaml                        what apply would leave in the kernel
  portmap render rules.yaml | sudo nft -f -
  portmap render --format iptables rules.yaml | sudo iptables-restore --noflush
  portmap render --format ip6tables rules.yaml | sudo ip6tables-restore --noflush")]
    Render(Render),
    /// Show what apply would change: `+` added, `-` removed, `~` changed.
    #[command(
        visible_alias = "diff",
        mut_arg("strict", |strict| strict.help(STRICT_ON_HOST)),
        after_help = "\
Examples:
  sudo portmap plan rules.yaml
  sudo portmap plan --detailed-exitcode rules.yaml    exit code 2 if there are changes
  sudo portmap plan -o json rules.yaml"
    )]
    Plan(Plan),
    /// Make the kernel match the rules files, in one transaction.
    ///
    /// Mappings that are active and not named are removed. Nothing is changed if a file has an
    /// error.
    ///
    /// With `--confirm`, the new mapping is on trial. On a terminal, `apply` waits: Enter keeps the
    /// new mapping, Ctrl-C reverts it, and the exit code is 1 if it was not kept. Elsewhere it
    /// returns at once; keep the mapping with `portmap confirm`, or end the trial with `portmap
    /// rollback`. During a trial no other mapping can be applied. `--confirm` cannot be used with
    /// `--persist`: use `portmap confirm --persist`.
    #[command(
        mut_arg("strict", |strict| strict.help(STRICT_ON_HOST)),
        after_help = "\
Examples:
  sudo portmap apply rules.yaml
  sudo portmap apply 80:3000 443:8443            both, and nothing else
  sudo portmap apply --dry-run rules.yaml
  sudo portmap apply --persist --message 'new web app' rules.yaml
  sudo portmap apply --confirm 60s rules.yaml    reverted automatically unless confirmed
  sudo portmap apply                             the files in /etc/portmap
  generate-rules | sudo portmap apply -"
    )]
    Apply(Apply),
    /// Show what is active, who listens at each target, and counters.
    ///
    /// LISTENER is the program that listens at the target: `nobody` if there is none, `?` if it
    /// cannot be seen. CONNECTIONS counts the new connections that were translated, whether they
    /// were answered or not; `-` where more than 4,096 ports are mapped, which the kernel does not
    /// count.
    #[command(
        alias = "list",
        after_help = "\
Examples:
  sudo portmap status
  sudo portmap status -o json
  sudo portmap status --watch              a live view, with connections per second
  sudo portmap status --check              for monitoring: exit code 1 if something is wrong
  sudo portmap status -o prometheus        for the textfile collector of a node exporter"
    )]
    Status(Status),
    /// Find out why a port does not answer, and what to do about it.
    ///
    /// Looks at the table, the listeners, the history and this host, and changes nothing. Each
    /// finding has a severity (error: some client that the mapping is meant for is not served;
    /// warning: works today; note: worth knowing), a code that never changes, and what to type.
    #[command(after_help = "\
Examples:
  sudo portmap doctor                      everything that is mapped
  sudo portmap doctor 80                   port 80, mapped or not
  sudo portmap doctor 53/udp 6000-6063
  sudo portmap doctor --rules new.yaml     what would be found if these rules were applied
  sudo portmap doctor --probe              with real connections, after asking
  sudo portmap doctor -o json")]
    Doctor(Doctor),
    /// Follow the next new connection through every table of this host.
    #[command(after_help = "\
Examples:
  sudo portmap trace                       the next new connection to any mapped port
  sudo portmap trace 80
  sudo portmap trace --count 3 --timeout 5m 443 53/udp
  sudo portmap trace -o json 80

It changes nothing for other traffic: a table of its own marks the first packets of new
connections, and is removed with the command, however that ends.")]
    Trace(Trace),
    /// Run a command, and map ports to it for as long as it lives.
    ///
    /// The mapping is beside that of the files, takes precedence over it, and is gone as soon as
    /// the command and all that it has started have ended, however they end. No process of
    /// portmap's stays: signals and the exit status are the command's own. The command runs without
    /// privileges: as the user who called sudo, or as that of `--user`. With `--user root` it runs as
    /// root, and keeps the privileges that portmap was given.
    ///
    /// The kernel ties the mapping to a socket that the command and its children inherit, as a
    /// descriptor with a number of 100 or more, and that is of no use without CAP_NET_ADMIN. A
    /// command that closes the descriptors it does not know ends the mapping. Connections through
    /// it lose their translation when it goes, and UDP clients that never stop sending reach the
    /// previous mapping only after their conntrack entry has expired.
    ///
    /// Linux before 5.12 cannot tie a mapping to a socket. There a process of portmap's waits beside
    /// the command and removes the mapping at the end, and `run` says so. If that process is killed,
    /// the mapping stays until the next `portmap apply`, `run` or `clear`; `status` says so too.
    #[command(after_help = "\
Examples:
  sudo portmap run 80:3000 -- npm start
  sudo portmap run 80 -- npm start         on a free port, which npm finds in $PORT
  sudo portmap run 53/udp:5353 --user dns -- dnsmasq -k -p 5353")]
    Run(Run),
    Guard(Guard),
    /// Keep the mapping that `apply --confirm` put on trial.
    #[command(after_help = "\
Examples:
  sudo portmap confirm
  sudo portmap confirm --persist")]
    Confirm(Confirm),
    /// Go back to an earlier generation; during a trial, end the trial.
    #[command(after_help = "\
Examples:
  sudo portmap rollback --dry-run
  sudo portmap rollback
  sudo portmap rollback 12
  sudo portmap rollback 0                  to nothing, as before the first apply")]
    Rollback(Rollback),
    /// List the generations: a numbered one for each change of the mapping.
    #[command(after_help = "\
Examples:
  portmap history
  portmap history -o json
  portmap history --diff 12                what generation 12 has changed
  portmap history --diff 9 12              how 12 differs from 9")]
    History(HistoryArgs),
    /// Print a generation as a rules file; by default the active one.
    #[command(after_help = "\
Examples:
  portmap show 12
  portmap show 12 > rules.yaml
  sudo portmap show")]
    Show(Show),
    /// Restore the active mapping after a reboot.
    ///
    /// Boot restores it only if something runs `portmap restore` then: portmap-nft.service, which is
    /// enabled if it is installed, the script for OpenRC or SysV init, or a line in rc.local or at
    /// @reboot in root's crontab. If nothing does, the exit code is 3.
    #[command(after_help = "\
Examples:
  sudo portmap persist
  sudo portmap persist --off")]
    Persist(Persist),
    /// Restore the persisted mapping; used by the boot service.
    #[command(after_help = "\
Examples:
  sudo portmap restore
  sudo portmap restore --if-missing        only if the kernel has no table of portmap")]
    Restore(Restore),
    /// Apply the rules in /etc/portmap and keep them for boot; used by the boot service.
    ///
    /// All files are checked first, and nothing is changed if one is wrong. If there are none, or if
    /// another program has removed portmap's table, the persisted mapping is restored instead.
    ///
    /// `systemctl reload portmap-nft` does this. `systemctl restart portmap-nft` does not: it removes
    /// the active mapping and restores the persisted one, even if that is another; its log says so.
    #[command(after_help = "\
Examples:
  sudo portmap reload")]
    Reload,
    /// Remove portmap's table from the kernel, and nothing else.
    #[command(aliases = ["remove", "reset"], after_help = "\
Examples:
  sudo portmap clear
  sudo portmap clear --dry-run
  sudo portmap clear --persist             after a reboot, too")]
    Clear(Clear),
    /// Print a completion script for a shell.
    #[command(after_help = "\
Examples:
  portmap completions bash > ~/.local/share/bash-completion/completions/portmap
  portmap completions zsh > ~/.zfunc/_portmap
  portmap completions fish > ~/.config/fish/completions/portmap.fish")]
    Completions(Completions),
    /// Print a manual page, or write all of them to a directory.
    #[command(after_help = "\
Examples:
  portmap man | man -l -
  portmap man rules | man -l -
  portmap man --output-dir /usr/local/share/man")]
    Man(Man),
    /// Print the JSON Schema of the rules file, or of a command's JSON output.
    #[command(after_help = "\
Examples:
  portmap schema > rules.schema.json
  portmap schema status

In an editor with a YAML language server, begin the file with:
  # yaml-language-server: $schema=rules.schema.json")]
    Schema(Schema),
    /// Print the version.
    #[command(hide = true)]
    Version,
}
