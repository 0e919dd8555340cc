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


def test_the_binary_can_come_from_the_controller(world):
    binary = world.path / "portmap-for-hosts"
    binary.write_bytes(world.portmap)
    for host in world.hosts[:2]:
        host.run("rm", "/usr/bin/portmap")
    limit = ("-l", "host1,host2")
    options = {"portmap_install": "binary", "portmap_binary": str(binary)}
    answer = role(world, FILES, *limit, "--check", **options)
    assert answer.rc == 0, answer.text
    for expected in (["host1", "host2"], []):
        answer = role(world, FILES, *limit, **options)
        assert answer.rc == 0, answer.text
        assert answer.changed == expected


def test_absent_leaves_no_file_and_no_redirect(world):
    for expected in (sorted(ALL), []):
        answer = role(world, {}, portmap_state="absent")
        assert answer.rc == 0, answer.text
        assert answer.changed == expected
    assert [host.ruleset() for host in world.hosts] == [""] * 10
    assert world.hosts[0].run("ls", "/etc/portmap").stdout == ""
