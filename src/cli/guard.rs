//! What `portmap guard` takes.

use clap::Args;

/// Stay, and put the mapping back when another program removes or changes it.
///
/// What the history says is active is put back in one transaction, usually within milliseconds. The
/// guard leaves alone what another portmap does (`clear --no-history` included), and a trial goes on
/// for as long as it would have. A mapping that is not in the history is not guarded. Where another
/// program keeps removing the table, the guard says which, and waits longer and longer.
///
/// It also keeps the kernel's address translation at work, by one rule without effect in a table of
/// its own, so that established connections live on while the mapping is gone. Linux before 5.12 has no such
/// tables: there, such connections may be reset when another program removes all rules.
///
/// `systemctl enable --now portmap-nft-guard` has systemd run it, and `journalctl -u
/// portmap-nft-guard` shows what it has put back. It ends with SIGTERM or Ctrl-C.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sudo portmap guard
  sudo portmap guard -o json               one document in a line for each event")]
pub struct Guard {}
