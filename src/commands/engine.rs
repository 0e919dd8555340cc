//! The engine on the kernel of this network namespace.

use crate::cli::Common;
use crate::commands::failure::Result;
use crate::engine::{Engine, Observer};
use crate::kernel::Netlink;
use crate::ui::Ui;

pub fn open<'u>(ui: &'u Ui, common: &Common) -> Result<Engine<'u, Netlink>> {
    open_with(ui, common)
}

/// The same with another observer than the user interface alone.
pub fn open_with<'o>(observer: &'o dyn Observer, common: &Common) -> Result<Engine<'o, Netlink>> {
    Ok(on(Netlink::open()?, observer, common))
}

/// The same on a kernel that is open already.
pub fn on<'o>(kernel: Netlink, observer: &'o dyn Observer, common: &Common) -> Engine<'o, Netlink> {
    Engine::new(kernel, &common.state_dir, common.wait, observer)
}
