#!/usr/bin/python3
"""A stand-in for portmap: its JSON and exit codes, and plain `PORT: PORT` TCP rules by nft.

Only for working on the collection where no portmap was built (PORTMAP=double make test-ansible).
"""

import json
import os
import re
import subprocess
import sys
import time

STATE = "/var/lib/portmap/double.json"


def fail(message, rc=1, **where):
    error = {"severity": "error", "message": message, **where}
    print(json.dumps({"version": 1, "errors": [error]}), file=sys.stderr)
    sys.exit(rc)


def nft(script):
    return subprocess.run(["nft", "-f", "-"], input=script, text=True, check=False).returncode


def kernel():
    done = subprocess.run(
        ["nft", "list", "table", "inet", "portmap"], capture_output=True, text=True
    )
    found = re.findall(r"tcp dport (\d+) redirect to :(\d+)", done.stdout)
    return {int(port): int(to) for port, to in found}


def commit(mapping):
    if not mapping:
        nft("table inet portmap\ndelete table inet portmap\n")
        return
    hook = "type nat hook %s priority -110; fib daddr type local jump ports;"
    rules = "".join("tcp dport %d redirect to :%d\n" % item for item in sorted(mapping.items()))
    nft(
        "table inet portmap\ndelete table inet portmap\ntable inet portmap {\n"
        "chain ports {\n%s}\nchain in {\n%s\n}\nchain out {\n%s\n}\n}\n"
        % (rules, hook % "prerouting", hook % "output")
    )


def load():
    state = {"generations": [{}], "persisted": None, "trial": None}
    if os.path.exists(STATE):
        with open(STATE) as file:
            state = json.load(file)
    trial = state["trial"]
    if trial and trial["until"] <= time.time():
        state["trial"] = None
    return state


def save(state):
    os.makedirs(os.path.dirname(STATE), exist_ok=True)
    with open(STATE + ".new", "w") as file:
        json.dump(state, file)
    os.replace(STATE + ".new", STATE)


def parse(name, text):
    mapping = {}
    for number, line in enumerate(text.splitlines(), 1):
        entry = re.fullmatch(r"  ([\d]+): (\d+|\{ to: (\d+).*)", line)
        if entry:
            mapping[int(entry[1])] = int(entry[3] or entry[2])
            if not 0 < int(entry[1]) < 65536:
                fail(
                    "%s is not a port" % entry[1],
                    file=name,
                    line=number,
                    column=3,
                    help="ports are from 1 to 65535",
                )
        elif line != "ports:":
            fail("cannot read %r" % line, file=name, line=number, column=1)
    return mapping


def read(files):
    mapping = {}
    for name in files or ["/etc/portmap"]:
        if name == "-":
            mapping.update(parse("<stdin>", sys.stdin.read()))
        elif os.path.isdir(name):
            for inner in sorted(os.listdir(name)):
                mapping.update(read([os.path.join(name, inner)]))
        else:
            with open(name) as file:
                mapping.update(parse(name, file.read()))
    if not mapping:
        fail("there are no ports in it", file=(files or ["/etc/portmap"])[0])
    return mapping


def yaml(mapping):
    return (
        "ports:\n" + "".join("  %d: %d\n" % i for i in sorted(mapping.items())) if mapping else ""
    )


def document(before, after, generation, **more):
    changes = []
    for port in sorted(set(before) | set(after)):
        old, new = before.get(port), after.get(port)
        if old != new:
            changes.append(
                {
                    "action": "add" if old is None else "remove" if new is None else "change",
                    "port": port,
                    "protocol": "tcp",
                    "before": old and {"to": old},
                    "after": new and {"to": new},
                }
            )
    print(
        json.dumps(
            {
                "version": 1,
                "changed": bool(changes),
                "changes": changes,
                "diff": {"before": yaml(before), "after": yaml(after)},
                "generation": generation,
                "warnings": [],
                **more,
            }
        )
    )


def main():
    args, options, files = sys.argv[1:], {}, []
    verb = args.pop(0)
    while args:
        arg = args.pop(0)
        if arg in ("--output", "--state-dir", "--confirm", "--message", "--to"):
            options[arg] = args.pop(0)
        elif arg == "--":
            files += args
            break
        elif arg.startswith("--"):
            options[arg] = True
        else:
            files.append(arg)
    state = load()
    now = len(state["generations"]) - 1
    before = kernel()
    dry = "--dry-run" in options
    if verb == "check":
        read(files)
        print(json.dumps({"version": 1, "errors": []}))
    elif verb == "plan":
        document(before, read(files), now)
    elif verb == "status":
        left = state["trial"] and {"left_seconds": int(state["trial"]["until"] - time.time())}
        print(
            json.dumps(
                {
                    "version": 1,
                    "mappings": sorted(before.items()),
                    "generation": now,
                    "persisted": state["persisted"],
                    "trial": left,
                }
            )
        )
    elif verb in ("apply", "clear", "rollback"):
        if verb == "apply" and state["trial"]:
            fail("a trial is running")
        if verb == "apply":
            after = read(files)
        elif verb == "clear":
            after = {}
        elif state["trial"]:
            after = {int(p): t for p, t in state["trial"]["old"].items()}
            state["trial"] = None
        else:
            to = int(options.get("--to", now - 1))
            if not 0 <= to <= now:
                fail("there is no generation %d" % to)
            after = {int(p): t for p, t in state["generations"][to].items()}
        if dry:
            return document(before, after, now)
        if after != before:
            commit(after)
            if "--confirm" in options:
                seconds = int(options["--confirm"].rstrip("s"))
                state["trial"] = {"until": time.time() + seconds, "old": before}
            else:
                state["generations"].append(after)
                now += 1
        if "--persist" in options:
            state["persisted"] = now
        save(state)
        if state["trial"]:
            subprocess.Popen(
                [sys.executable, __file__, "expire", str(state["trial"]["until"])],
                start_new_session=True,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        document(before, after, now)
    elif verb == "expire":
        time.sleep(max(0, float(files[0]) - time.time() - 0.1))
        with open(STATE) as file:
            state = json.load(file)
        if state["trial"] and state["trial"]["until"] == float(files[0]):
            commit({int(p): t for p, t in state["trial"]["old"].items()})
            state["trial"] = None
            save(state)
    elif verb == "confirm":
        if not state["trial"]:
            fail("no trial is running")
        state["trial"] = None
        state["generations"].append(before)
        now += 1
        if "--persist" in options:
            state["persisted"] = now
        save(state)
        document(before, before, now)
    elif verb == "persist":
        state["persisted"] = None if "--off" in options else now
        save(state)
        print(json.dumps({"version": 1}))
    else:
        fail("unknown command", 64)


if __name__ == "__main__":
    main()
