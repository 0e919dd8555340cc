//! How a command that has done its work ends.

use std::process::ExitCode;

use crate::commands::failure::Result;
use crate::engine::Change;

/// Exit code 2 if there are changes and the user wants to know it from the code.
pub fn exit_code(is_change: bool, detailed: bool) -> ExitCode {
    if is_change && detailed { ExitCode::from(2) } else { ExitCode::SUCCESS }
}

/// What failed after the kernel was changed comes last.
pub fn finish(change: Change, code: ExitCode) -> Result {
    match change.shortfall {
        Some(shortfall) => Err(shortfall.into()),
        None => Ok(code),
    }
}
