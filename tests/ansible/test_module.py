"""The module on ten hosts, over ssh. The tests are one story and run in this order."""

from __future__ import annotations

import threading
import time

RULES = {"ports": {"80": 3000, "443": 8443}}
ALL = ["host%d" % n for n in range(1, 11)]


def portmap(**args):
    options = {k: args.pop(k) for k in ("register", "check_mode", "any_errors_fatal") if k in args}
    return {"name": "portmap", "portmap.portmap.portmap": args, **options}


def rulesets(world):
    return [host.ruleset() for host in world.hosts]


def test_check_mode_tells_and_changes_nothing(world):
    answer = world.play([portmap(rules=RULES, persist=True)], "--check", "--diff")
    assert answer.rc == 0, answer.text
    assert answer.changed == sorted(ALL)
    assert answer.text.count("+  80: 3000") == 10, answer.text
    assert [c["action"] for c in answer.last("host1")["changes"]] == ["add", "add"]
    assert rulesets(world) == [""] * 10
    assert not any(host.exists("/var/lib/portmap") for host in world.hosts)


def test_first_run_changes_all(world):
    answer = world.play([portmap(rules=RULES, persist=True, note="first run")])
    assert answer.rc == 0, answer.text
    assert answer.changed == sorted(ALL)
    assert all(host.mapping() == {80: 3000, 443: 8443} for host in world.hosts)
    assert answer.last("host1")["persisted"] is True


def test_second_run_changes_none(world):
    before = rulesets(world)
    for options in (["--check"], []):
        answer = world.play([portmap(rules=RULES, persist=True)], *options)
        assert answer.rc == 0, answer.text
        assert answer.changed == []
        assert answer.last("host1")["changes"] == []
    assert rulesets(world) == before


def test_a_drifted_host_is_the_one_that_changes(world):
    drifted = world.hosts[3]
    drifted.run("nft", "delete", "table", "inet", "portmap")
    answer = world.play([portmap(rules=RULES, persist=True)], "--diff")
    assert answer.rc == 0, answer.text
    assert answer.changed == ["host4"]
    assert drifted.mapping() == {80: 3000, 443: 8443}


def test_only_what_differs_is_changed(world):
    wanted = {"ports": {"80": 3001, "443": 8443, "8080": 3000}}
    task = portmap(rules=wanted)
    foreseen = world.play([task], "--check", "--diff", "-l", "host1").last("host1")
    done = world.play([task], "--diff", "-l", "host1").last("host1")
    actions = [(c["action"], c["port"]) for c in done["changes"]]
    assert sorted(actions) == [("add", 8080), ("change", 80)]
    assert foreseen["changes"] == done["changes"]
    assert foreseen["diff"] == done["diff"]
    assert world.hosts[0].mapping() == {80: 3001, 443: 8443, 8080: 3000}


def test_rolled_back_is_told_beforehand_and_done(world):
    host = world.hosts[0]
    task = portmap(state="rolled_back", note="wrong app")
    foreseen = world.play([task], "--check", "-l", "host1")
    assert foreseen.changed == ["host1"], foreseen.text
    assert host.mapping()[80] == 3001
    done = world.play([task], "-l", "host1")
    assert done.changed == ["host1"], done.text
    assert done.last("host1")["changes"] == foreseen.last("host1")["changes"]
    assert host.mapping() == {80: 3000, 443: 8443}


def test_rolled_back_to_a_generation_happens_once(world):
    task = portmap(state="rolled_back", generation=1)
    for expected in ([], []):
        answer = world.play([task], "-l", "host2")
        assert answer.rc == 0, answer.text
        assert answer.changed == expected
    answer = world.play([portmap(state="rolled_back", generation=4711)], "-l", "host2")
    assert answer.failed == ["host2"]
    assert "4711" in answer.last("host2")["msg"]


def test_persisted_happens_once(world):
    world.play([portmap(rules={"ports": {"80": 3005}})], "-l", "host3")
    for options, expected in ((["--check"], ["host3"]), ([], ["host3"]), ([], [])):
        answer = world.play([portmap(state="persisted")], *options, "-l", "host3")
        assert answer.rc == 0, answer.text
        assert answer.changed == expected


def test_the_rules_may_be_files_of_the_host(world):
    host = world.hosts[4]
    host.put("/srv/rules/web.yaml", "ports:\n  80: 3000\n")
    host.put("/srv/rules/mail.yaml", "ports:\n  25: 2525\n")
    for expected in (["host5"], []):
        answer = world.play([portmap(src=["/srv/rules"])], "-l", "host5")
        assert answer.rc == 0, answer.text
        assert answer.changed == expected
    assert host.mapping() == {80: 3000, 25: 2525}


def test_absent_until_the_next_boot_only(world):
    host = world.hosts[5]
    before = host.mapping()
    world.play([portmap(state="absent", persist=False)], "-l", "host6")
    assert host.ruleset() == ""
    host.run("portmap", "restore")
    assert host.mapping() == before


def test_absent_removes_everything_once_and_for_good(world):
    for options, expected in ((["--check"], ["host6"]), ([], ["host6"]), ([], [])):
        answer = world.play([portmap(state="absent")], *options, "-l", "host6")
        assert answer.rc == 0, answer.text
        assert answer.changed == expected
    world.hosts[5].run("portmap", "restore")
    assert world.hosts[5].ruleset() == ""


def test_a_note_may_begin_with_a_hyphen(world):
    host = world.hosts[5]
    answer = world.play([portmap(rules=RULES, note="--force, said the ticket")], "-l", "host6")
    assert answer.rc == 0, answer.text
    assert "--force, said the ticket" in host.run("portmap", "history").stdout
    answer = world.play([portmap(state="rolled_back", note="-x")], "-l", "host6")
    assert answer.rc == 0, answer.text


def test_a_name_with_a_newline_is_refused_or_quoted(world):
    files = {"web\n": {"ports": {"80": 3000}}}
    answer = world.play([portmap(files=files)], "-l", "host6")
    assert answer.failed == ["host6"]
    assert "cannot be the name of a rules file" in answer.last("host6")["msg"]
    # A rules file has no such port; were the line broken, it would have another mapping.
    for port, target in (("80\n", 3000), ("80: 81\n", 3000), ("80", "3000\n")):
        answer = world.play([portmap(rules={"ports": {port: target}})], "-l", "host6")
        assert answer.failed == ["host6"], answer.text
        assert "\\n" in answer.last("host6")["msg"] or "not a" in answer.last("host6")["msg"]


def test_a_failure_after_the_kernel_was_changed_is_reported_as_a_change(world):
    host = world.hosts[5]
    script = '#!/bin/sh\necho \'{"version": 1, "errors": [{"message": "half done"}]}\' >&2\nexit 3\n'
    host.put("/usr/local/bin/portmap-half", script, 0o755)
    answer = world.play([portmap(rules=RULES, executable="portmap-half")], "-l", "host6")
    assert answer.failed == ["host6"]
    assert answer.last("host6")["changed"] is True
    assert "half done" in answer.last("host6")["msg"]


BAD = {"ports": {"80": 3000, "70000": 8443}}


def test_bad_rules_fail_on_the_controller_before_any_host_is_touched(world):
    world.controller_has_portmap(True)
    world.forget_connections()
    logins = [host.logins() for host in world.hosts]
    answer = world.play([portmap(rules=BAD)])
    world.controller_has_portmap(False)
    assert answer.failed == sorted(ALL)
    said = answer.last("host1")
    assert "70000" in said["msg"] and "No host was touched" in said["msg"]
    assert said["errors"][0]["line"] == 3
    assert [host.logins() for host in world.hosts] == logins


def test_bad_rules_fail_on_the_host_where_the_controller_cannot_tell(world):
    before = rulesets(world)
    answer = world.play([portmap(rules=BAD)])
    assert answer.failed == sorted(ALL)
    said = answer.last("host1")
    assert "70000" in said["msg"]
    assert said["errors"][0]["line"] == 3
    assert rulesets(world) == before
    answer = world.play([portmap(rules=BAD, validate="controller")], "-l", "host1")
    assert "no portmap on the controller" in answer.last("host1")["msg"]


def test_one_host_that_rejects_the_rules_saves_all(world):
    before = rulesets(world)
    rules = "{{ %r if inventory_hostname == 'host7' else %r }}" % (BAD, {"ports": {"80": 3009}})
    answer = world.play(
        [portmap(state="checked", rules=rules, any_errors_fatal=True), portmap(rules=rules)]
    )
    assert answer.failed == ["host7"], answer.text
    assert answer.changed == []
    assert rulesets(world) == before


def test_nonsense_is_refused(world):
    for args, said in (
        ({"rules": RULES, "src": ["/etc/portmap"]}, "mutually exclusive"),
        ({"state": "absent", "rules": RULES}, "cannot be used"),
        ({"rules": RULES, "generation": 3}, "rolled_back"),
        ({"rules": 80}, "must be a mapping"),
        ({"rules": RULES, "executable": "portmap-that-is-not-there"}, "portmap-nft"),
        ({"state": "gone"}, "value of state"),
    ):
        answer = world.play([portmap(**args)], "-l", "host1")
        assert answer.failed == ["host1"], args
        assert said in answer.last("host1")["msg"], answer.text


# Trials


def test_a_trial_is_confirmed_over_a_new_connection(world):
    listen = {
        "name": "an app",
        "ansible.builtin.shell": "setsid python3 -m http.server 3000 >/dev/null 2>&1 </dev/null &",
    }
    world.play([listen], "-l", "host8")
    task = portmap(rules={"ports": {"80": 3000}}, confirm=30, check_ports=[80], persist=True)
    for options, expected in ((["--check"], ["host8"]), ([], ["host8"]), ([], [])):
        answer = world.play([task], *options, "-l", "host8")
        assert answer.rc == 0, answer.text
        assert answer.changed == expected
    assert world.hosts[7].mapping() == {80: 3000}
    second = world.play([portmap(state="confirmed")], "-l", "host8")
    assert second.changed == []


def test_a_port_that_does_not_answer_takes_the_mapping_back_at_once(world):
    host = world.hosts[7]
    task = portmap(rules={"ports": {"80": 3999}}, confirm=60, check_ports=[80], check_timeout=1)
    answer = world.play([task], "-l", "host8")
    assert answer.failed == ["host8"]
    said = answer.last("host8")
    assert "port 80 of 10.99.0.18 does not answer" in said["msg"]
    assert "rolled back at once" in said["msg"].lower()
    assert answer.seconds < 30
    assert host.mapping() == {80: 3000}


def test_a_mapping_that_locks_ssh_out_goes_back_by_itself(world):
    host = world.hosts[8]
    before = host.mapping()
    task = portmap(rules={"ports": {"22": 9, "80": 3000}}, confirm=10)
    answer = world.play([task], "-l", "host9")
    assert answer.failed == ["host9"]
    assert answer.recap["host9"]["unreachable"] == 0, answer.text
    said = answer.last("host9")
    assert "cannot be reached over a new connection" in said["msg"]
    assert "the trial ran out" in said["msg"], answer.text
    assert said["rolled_back"] is True
    assert host.mapping() == before
    after = world.play([portmap(rules=RULES)], "-l", "host9")
    assert after.rc == 0, after.text


def test_a_trial_may_be_left_to_tasks_of_the_play(world):
    task = portmap(rules={"ports": {"80": 3003}}, confirm=60, confirm_by="task")
    answer = world.play([task, portmap(state="confirmed")], "-l", "host10")
    assert answer.rc == 0, answer.text
    assert world.hosts[9].mapping() == {80: 3003}
    task = portmap(rules={"ports": {"80": 3004}}, confirm=2, confirm_by="task")
    answer = world.play([task], "-l", "host10")
    assert answer.last("host10")["trial"]["left_seconds"] <= 2
    time.sleep(3)
    assert world.hosts[9].mapping() == {80: 3003}


# Hosts that die


def test_a_host_that_dies_in_the_middle_is_as_before_or_as_wanted(world):
    world.play([portmap(rules=RULES)])
    victim = world.hosts[1]
    seen = set()
    for delay in (0.3, 0.6, 0.9, 1.2):
        wanted = {"ports": {"80": int(4000 + delay * 10)}}
        old, new = victim.mapping(), {80: int(4000 + delay * 10)}
        world.forget_connections()
        timer = threading.Timer(delay, victim.die)
        timer.start()
        answer = world.play([portmap(rules=wanted)], "-l", "host1,host2,host3")
        timer.join()
        assert set(answer.failed) <= {"host2"}, answer.text
        assert world.hosts[0].mapping() == new
        victim.start_sshd()
        now = victim.mapping()
        assert now in (old, new)
        seen.add(now == new)
        world.forget_connections()
        again = world.play([portmap(rules=wanted)], "-l", "host1,host2,host3")
        assert again.rc == 0, again.text
        assert again.changed == ([] if now == new else ["host2"])
        assert victim.mapping() == new
    print("host as wanted after it died: %s" % sorted(seen))


def test_a_portmap_that_is_killed_leaves_before_or_wanted(world):
    host = world.hosts[2]
    for step, delay in enumerate(("0", "0.001", "0.002", "0.004", "0.008", "0.016", "0.05")):
        host.put(
            "/usr/local/bin/portmap-killed",
            "#!/bin/sh\n"
            'case "$1" in apply) portmap "$@" <&0 & sleep %s; kill -9 $!; wait $!;;\n'
            '*) exec portmap "$@";; esac\n' % delay,
            0o755,
        )
        old, new = host.mapping(), {80: 5000 + step}
        rules = {"ports": {"80": 5000 + step}}
        answer = world.play([portmap(rules=rules, executable="portmap-killed")], "-l", "host3")
        now = host.mapping()
        assert now in (old, new)
        if answer.failed == []:
            assert now == new
        again = world.play([portmap(rules=rules)], "-l", "host3")
        assert again.rc == 0, again.text
        assert again.changed == ([] if now == new else ["host3"])
        assert host.mapping() == new
