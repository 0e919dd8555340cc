"""The role on ten hosts, over ssh."""

from __future__ import annotations

ALL = ["host%d" % n for n in range(1, 11)]
FILES = {"web": {"ports": {"80": 3000}}, "mail": {"ports": {"25": 2525}}}


def role(world, files, *options, **variables):
    return world.play(
        [{"name": "role", "ansible.builtin.include_role": {"name": "portmap.portmap.portmap"}}],
        *options,
        variables={"portmap_install": "none", "portmap_files": files, **variables},
    )


def clean(world):
    for host in world.hosts:
        host.run("sh", "-c", "portmap clear; rm -rf /etc/portmap /var/lib/portmap")


def test_check_mode_of_a_first_run_changes_nothing(world):
    clean(world)
    answer = role(world, FILES, "--check", "--diff")
    assert answer.rc == 0, answer.text
    assert answer.changed == sorted(ALL)
    assert "+  80: 3000" in answer.text and "+  25: 2525" in answer.text
    assert not any(host.exists("/etc/portmap") for host in world.hosts)
    assert [host.ruleset() for host in world.hosts] == [""] * 10


def test_first_run_installs_and_second_changes_nothing(world):
    for expected in (sorted(ALL), []):
        answer = role(world, FILES)
        assert answer.rc == 0, answer.text
        assert answer.changed == expected
    for host in world.hosts:
        assert host.read("/etc/portmap/web.yaml") == "ports:\n  80: 3000\n"
        assert host.mapping() == {80: 3000, 25: 2525}
    assert role(world, FILES, "--check").changed == []


def test_a_file_that_was_edited_on_one_host_is_put_right_there(world):
    world.hosts[5].put("/etc/portmap/web.yaml", "ports:\n  80: 3999\n")
    answer = role(world, FILES, "--diff")
    assert answer.rc == 0, answer.text
    assert answer.changed == ["host6"]
    assert "-  80: 3999" in answer.text


def test_files_that_contradict_each_other_change_no_host(world):
    before = [host.ruleset() for host in world.hosts]
    files = {**FILES, "other": {"ports": {"70000": 1}}}
    answer = role(world, files)
    assert answer.failed == sorted(ALL)
    assert "/etc/portmap/other.yaml:2:3" in answer.text, answer.text
    assert not any(host.exists("/etc/portmap/other.yaml") for host in world.hosts)
    assert [host.ruleset() for host in world.hosts] == before


def without_portmap(world, *hosts):
    for host in hosts:
        host.run("rm", "-f", "/usr/bin/portmap", "/usr/local/bin/portmap")


def test_the_role_says_what_to_set_before_it_changes_a_host(world):
    two = world.hosts[:2]
    without_portmap(world, two[1])
    for host in two:
        host.run("rm", "-rf", "/etc/portmap")
    answer = role(world, FILES, "-l", "host1,host2", portmap_install="auto")
    assert answer.failed, answer.text
    assert "portmap_deb" in answer.text and "host2" in answer.text
    answer = role(world, FILES, "-l", "host2", portmap_install="deb", portmap_deb="/nowhere.deb")
    assert answer.failed == ["host2"]
    assert "'/nowhere.deb'" in answer.text
    answer = role(world, {}, "-l", "host1", portmap_install="auto")
    assert answer.failed == ["host1"]
    assert "Set portmap_rules" in answer.text
    assert not any(host.exists("/etc/portmap") for host in two)


def test_the_default_uses_the_portmap_that_is_on_the_host(world):
    answer = role(world, FILES, "-l", "host1", portmap_install="auto")
    assert answer.rc == 0, answer.text
    assert world.hosts[0].mapping() == {80: 3000, 25: 2525}


def test_the_binary_can_come_from_the_controller(world):
    binary = world.path / "portmap-for-hosts"
    binary.write_bytes(world.portmap)
    hosts = world.hosts[:2]
    without_portmap(world, *hosts)
    for host in hosts:
        # Just enough of systemd for the role to find it.
        host.run("mkdir", "-p", "/run/systemd/system", "/etc/systemd/system")
        host.put("/usr/local/bin/systemctl", SYSTEMCTL, 0o755)
    limit = ("-l", "host1,host2")
    options = {"portmap_install": "auto", "portmap_binary": str(binary)}
    answer = role(world, FILES, *limit, "--check", **options)
    assert answer.rc == 0, answer.text
    for expected in (["host1", "host2"], []):
        answer = role(world, FILES, *limit, **options)
        assert answer.rc == 0, answer.text
        assert answer.changed == expected
    unit = hosts[0].read("/etc/systemd/system/portmap-nft.service")
    assert "ExecStart=/usr/local/bin/portmap restore\n" in unit
    assert "/usr/bin/portmap" not in unit and unit.endswith("portmap-nft-again.service\n")
    assert hosts[0].exists("/etc/systemd/system/portmap-nft-again.service")
    guard = hosts[0].read("/etc/systemd/system/portmap-nft-guard.service")
    assert "ExecStart=/usr/local/bin/portmap guard\n" in guard and "/usr/bin/portmap" not in guard
    asked = hosts[0].read("/var/log/systemctl").splitlines()
    assert "daemon-reload" in asked
    # It is off by default; one that runs becomes the new one, and only when there is a new one.
    assert [line for line in asked if "guard" in line] == ["try-restart portmap-nft-guard.service"]
    for host in hosts:
        # Persisting has enabled the unit; the other hosts have none.
        units = "rm -f /etc/systemd/system/portmap-nft* /etc/systemd/system/*.wants/portmap-nft*"
        host.run("sh", "-c", units)
        host.run("rm", "-rf", "/run/systemd/system", "/usr/local/bin/systemctl")


SYSTEMCTL = """#!/bin/sh
echo "$@" >>/var/log/systemctl
case "$*" in *is-enabled*) echo enabled ;; *show*) echo LoadState=loaded; echo ActiveState=active ;; esac
"""


# The playbooks of the collection


def playbook(world, name, *options, **variables):
    # Nothing starts units on these hosts.
    given = {"portmap_install": "none", "portmap_files": FILES, "portmap_service_enabled": False}
    given.update(variables)
    return world.playbook("portmap.portmap." + name, *options, variables=given)


def test_a_rollout_in_waves_stops_at_the_first_failure(world):
    wrong = {"web": {"ports": {"80": 3001}}}
    # Nobody listens there, so that the first wave does not confirm.
    answer = playbook(
        world, "waves", portmap_files=wrong, portmap_check_ports=[80], portmap_trial_seconds=30
    )
    assert answer.failed == ["host1"], answer.text
    assert set(answer.recap) == {"host1"}, answer.text
    assert [host.mapping().get(80) for host in world.hosts] == [3000] * 10


def test_a_rollout_in_waves_covers_all_hosts(world):
    files = {**FILES, "more": {"ports": {"443": 8443}}}
    answer = playbook(world, "waves", portmap_files=files)
    assert answer.rc == 0, answer.text
    assert answer.changed == sorted(ALL)
    assert all(host.mapping()[443] == 8443 for host in world.hosts)
    assert playbook(world, "waves").rc == 0


def test_an_audit_names_the_hosts_that_differ_and_changes_nothing(world):
    answer = playbook(world, "audit")
    assert answer.rc == 0, answer.text
    drifted, forgetful, edited = world.hosts[2], world.hosts[4], world.hosts[6]
    drifted.run("nft", "delete", "table", "inet", "portmap")
    forgetful.run("portmap", "persist", "--off")
    edited.put("/etc/portmap/web.yaml", "ports:\n  80: 3999\n")
    before = [host.ruleset() for host in world.hosts]
    answer = playbook(world, "audit", "--diff")
    assert answer.failed == ["host3", "host5", "host7"], answer.text
    assert "host3 differs: active mapping." in answer.text
    assert "host5 differs: mapping restored at boot." in answer.text
    assert "host7 differs: rules files." in answer.text
    assert [host.ruleset() for host in world.hosts] == before
    assert "3999" in edited.read("/etc/portmap/web.yaml")
    assert playbook(world, "waves").rc == 0
    assert playbook(world, "audit").rc == 0


def test_an_audit_tells_what_only_the_host_knows(world):
    limit = ("-l", "host1,host2")
    answer = playbook(world, "audit", *limit, portmap_service_enabled=True)
    assert answer.failed == ["host1", "host2"], answer.text
    assert "is persisted, but nothing restores it" in answer.text
    mapping = ("80:3000", "25:2525", "443:3001")
    world.hosts[0].run("portmap", "apply", "--confirm", "60s", *mapping)
    try:
        answer = playbook(world, "audit", *limit)
    finally:
        world.hosts[0].run("portmap", "rollback")
    assert answer.failed == ["host1"], answer.text
    assert "is on trial for" in answer.text
    assert playbook(world, "audit", *limit).rc == 0


def test_absent_leaves_no_file_and_no_redirect(world):
    for expected in (sorted(ALL), []):
        answer = role(world, {}, portmap_state="absent")
        assert answer.rc == 0, answer.text
        assert answer.changed == expected
    assert [host.ruleset() for host in world.hosts] == [""] * 10
    assert world.hosts[0].run("ls", "/etc/portmap").stdout == ""
    for host in world.hosts:
        host.run("portmap", "restore")
    assert [host.ruleset() for host in world.hosts] == [""] * 10
