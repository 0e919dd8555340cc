//! The tests that need a kernel, the program, or both. Each works in network namespaces of its
//! own and leaves the machine's ruleset alone; see [`support`].

mod accepted;
mod arguments;
mod as_if_it_listened;
mod changes;
mod commands;
mod completions;
mod confinement;
mod connections;
mod docs;
mod doctor;
mod earlier_build;
mod environment;
mod escape_codes;
mod examples;
mod faults;
mod firewalls;
mod foreseen;
mod full_disk;
mod guard;
mod history;
mod installation;
mod invocation;
mod iptables;
mod job_control;
mod kernel_facts;
mod kernel_properties;
mod kill;
mod limits;
mod lingering;
mod locks;
mod log;
mod many;
mod monitoring;
mod output;
mod persist;
mod privileges;
mod probe;
mod properties;
mod redirects;
mod repairs;
mod run;
mod schemas;
mod selectors;
mod signals;
mod silence;
mod state;
mod support;
mod trace;
mod transitions;
mod trial;
mod trial_udp;
mod users;
mod walk;

/// First in a list of failures, this one explains the others.
#[test]
fn a_test_can_make_namespaces() {
    if let Err(why) = support::namespace::can_make_namespaces() {
        panic!("{why}");
    }
}
