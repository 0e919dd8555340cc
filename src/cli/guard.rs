//! What `portmap guard` takes.

use clap::Args;

/// Stay, and put the mapping back when another program removes or changes it.
///
/// What the history says is active is put back in one transaction, usually within milliseconds. The
/// guard leaves alone what another portmap does (`clear --no-history` included), and a trial goes on
/// for as long as it would have. A mapping that is not in the history is not guarded. Where another
/// program keeps removing the table, the guard says which, and waits longer and longer.
///
/// It also keeps the kernel's address translation alive, in a table of its own without any rule, so
/// that established connections live on while the mapping is gone.
///
/// portmap-nft-guard.service runs it; it is not enabled by default. It ends with SIGTERM or Ctrl-C.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sudo systemctl enable --now portmap-nft-guard
  journalctl -u portmap-nft-guard          what it has put back, and who had removed it
  sudo portmap guard                       the same in a terminal")]
pub struct Guard {}
