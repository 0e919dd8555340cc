//! The tests that need a kernel, the program, or both. Each works in network namespaces of its
//! own and leaves the machine's ruleset alone; see [`support`].

mod changes;
mod commands;
mod docs;
mod examples;
mod history;
mod iptables;
mod kernel_facts;
mod kernel_properties;
mod kill;
mod many;
mod persist;
mod privileges;
mod properties;
mod redirects;
mod schemas;
mod state;
mod support;
mod trial;

/// First in a list of failures, this one explains the others.
#[test]
fn a_test_can_make_namespaces() {
    if let Err(why) = support::namespace::can_make_namespaces() {
        panic!("{why}");
    }
}
