//! `portmap plan`: what would apply do?

use crate::cli::{self, Common};
use crate::commands::failure::Result;
use crate::commands::preview;
use crate::ui::Ui;

pub fn run(ui: &Ui, common: &Common, plan: &cli::Plan) -> Result {
    preview::show(ui, common, &plan.input, plan.detailed_exitcode)
}
