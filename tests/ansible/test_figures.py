"""What a task that changes nothing costs on a host, against what peers' modules cost."""

from __future__ import annotations

import statistics

from world import PEERS

ROUNDS = 7
REDIRECTS = ((80, 3000), (443, 8443))


def redirect(chain, port, to, version):
    return {
        "ansible.builtin.iptables": {
            "table": "nat",
            "chain": chain,
            "ip_version": version,
            "protocol": "tcp",
            "destination_port": str(port),
            "jump": "REDIRECT",
            "to_ports": str(to),
        }
    }


def measure(world, prepare, task):
    """Seconds of each of ROUNDS runs of a task that has nothing to do."""
    rounds = [{**task, "name": "round"} for _ in range(ROUNDS)]
    answer = world.play(prepare + rounds, "-l", "host1")
    assert answer.rc == 0, answer.text
    timed = [r for r in answer.results if r["task"] == "round"]
    assert len(timed) == ROUNDS
    assert not any(r["result"]["changed"] for r in timed), answer.text
    return statistics.median(r["seconds"] for r in timed)


def test_figures(world, capsys):
    portmap = {"portmap.portmap.portmap": {"rules": {"ports": {str(p): t for p, t in REDIRECTS}}}}
    iptables = redirect("PREROUTING", 80, 3000, "ipv4")
    lines = [
        ("nothing at all (ansible.builtin.ping)", {"ansible.builtin.ping": {}}, [], 1),
        ("portmap.portmap.portmap, inline rules", portmap, [portmap], 1),
        # Two ports, two chains, two families: one call for each.
        ("ansible.builtin.iptables, one of 8 rules", iptables, [iptables], 8),
    ]
    if (PEERS / "fetched").exists():
        name, options = "community.general.iptables_state", {"path": "/tmp/saved", "table": "nat"}
        saved = {name: {**options, "state": "saved"}}
        restored = {name: {**options, "state": "restored"}, "async": 20, "poll": 0}
        lines.append((name + ", IPv4 only", restored, [saved, {**restored}], 1))
    table = []
    for what, task, prepare, calls in lines:
        seconds = measure(world, prepare, task)
        table.append("%-44s %6.2f s a call %7.2f s in all" % (what, seconds, seconds * calls))
    if len(lines) < 4:
        table.append("community.general.iptables_state: could not be fetched")
    with capsys.disabled():
        print("\n\na run that changes nothing, seconds on one host (median of %d):" % ROUNDS)
        print("\n".join(table))
