//! What needs privileges, what does not, and whose files root believes.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::support::{Namespace, needs_other_users};

#[test]
fn checking_and_rendering_need_no_privileges() {
    let host = Namespace::new();
    let rules = host.file("rules.yaml", "ports: { 80: 3000 }");

    for command in ["check", "render"] {
        let arguments = [command.as_ref(), rules.as_os_str()];
        let privileged = host.portmap(arguments).run().succeeds();
        let unprivileged = host.portmap_unprivileged(arguments).run().succeeds();
        assert_eq!(unprivileged.stdout, privileged.stdout);
        assert_eq!(unprivileged.stderr, privileged.stderr);
    }
    assert_eq!(host.ruleset(), "");
}

#[test]
fn applying_without_privileges_says_which_one_is_missing() {
    let host = Namespace::new();
    let rules = host.file("rules.yaml", "ports: { 80: 3000 }");

    let outcome = host.portmap_unprivileged(["apply".as_ref(), rules.as_os_str()]).run();

    let outcome = outcome.fails_with(1).says("CAP_NET_ADMIN");
    assert_eq!(outcome.stdout, "");
    let lines: Vec<&str> = outcome.stderr.lines().collect();
    assert_eq!(lines.len(), 2, "one line that says it, one that helps: {outcome}");
    assert!(lines[1].contains("help"), "{outcome}");
    assert_eq!(host.ruleset(), "");
}

#[test]
fn root_does_not_believe_a_file_that_others_may_write() {
    needs_other_users();
    let host = Namespace::new();
    let rules = host.file("rules.yaml", "ports: { 80: 3000 }");

    // Group 1 is nobody's own, as a group of root's name would be.
    for (group, mode) in [(1, 0o664), (0, 0o646)] {
        std::os::unix::fs::chown(&rules, None, Some(group)).unwrap();
        fs::set_permissions(&rules, fs::Permissions::from_mode(mode)).unwrap();
        let outcome = host.portmap(["apply".as_ref(), rules.as_os_str()]).run();
        outcome.fails_with(1).says("rules.yaml");
    }
    fs::set_permissions(&rules, fs::Permissions::from_mode(0o644)).unwrap();
    fs::set_permissions(host.dir(), fs::Permissions::from_mode(0o777)).unwrap();
    host.portmap(["apply".as_ref(), rules.as_os_str()]).run().fails_with(1);
    assert_eq!(host.ruleset(), "");

    fs::set_permissions(host.dir(), fs::Permissions::from_mode(0o755)).unwrap();
    host.portmap(["apply".as_ref(), rules.as_os_str()]).run().succeeds();
}
