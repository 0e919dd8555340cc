//! What a story needs, by concept:
//!
//! - [`namespace`]: a network namespace that dies with its test, and commands inside it;
//! - [`world`]: a host with clients around it, joined by veth pairs;
//! - [`net`]: servers that say who they are, clients that ask;
//! - [`process`]: servers that are processes of other users;
//! - [`portmap`]: the program under test, run on a host; [`old_kernel`]: `portmap run` where the
//!   kernel can do less;
//! - [`arbitrary`]: any mapping; [`model`]: the kernel's part, without a kernel (tests/engine has it
//!   behind the program's own door);
//! - [`record`]: what a long run has counted;
//! - [`skip`]: what this machine cannot do;
//! - [`terminal`]: the same at a terminal, with somebody at the keys.

pub mod arbitrary;
mod boot;
pub mod chance;
#[allow(dead_code, reason = "tests/engine uses all of it")]
pub mod model;
pub mod namespace;
pub mod net;
pub mod old_kernel;
pub mod portmap;
pub mod process;
pub mod record;
pub mod share;
mod skip;
pub mod terminal;
pub mod world;

pub use namespace::{Namespace, needs_other_users};
pub use net::{Listen, NoAnswer, answer};
pub use skip::skip;
pub use world::World;

use std::thread;
use std::time::{Duration, Instant};

/// How long a test waits for anything that must happen. Generous: it is only spent on failure.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Returns as soon as `condition` holds; panics if it does not within [`PATIENCE`].
#[track_caller]
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} in vain: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}
