//! How much fits on a line.

use std::io::{self, IsTerminal};

/// The columns of the terminal that standard output is; `None` if it is none, or does not say.
pub fn width() -> Option<usize> {
    let stdout = io::stdout();
    if !stdout.is_terminal() {
        return None;
    }
    let (terminal_size::Width(columns), _) = terminal_size::terminal_size_of(stdout)?;
    Some(usize::from(columns)).filter(|columns| *columns > 0)
}
