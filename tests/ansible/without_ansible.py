"""What needs no host of the module on the real program, with Python alone: `make test` runs it.

    packaging/private.sh python3 tests/ansible/without_ansible.py PORTMAP
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import types
import unittest
from pathlib import Path

COLLECTION = Path(__file__).resolve().parents[2] / "packaging" / "ansible"
RULES = {"ports": {"80": 3000, "443": 8443}}


def stand_ins():
    """What the module imports, as far as it goes without Ansible."""
    for name, path in (
        ("ansible", None),
        ("ansible.module_utils", None),
        ("ansible.module_utils.basic", None),
        ("ansible_collections", None),
        ("ansible_collections.portmap", None),
        ("ansible_collections.portmap.portmap", COLLECTION),
    ):
        module = types.ModuleType(name)
        module.__path__ = [str(path)] if path else []
        sys.modules[name] = module
    sys.modules["ansible.module_utils.basic"].AnsibleModule = None


sys.dont_write_bytecode = True
stand_ins()
from ansible_collections.portmap.portmap.plugins.module_utils import command, files, rules  # noqa: E402
from ansible_collections.portmap.portmap.plugins.modules import portmap as module  # noqa: E402


class Called:
    """A call of the module with these parameters, as Ansible makes it."""

    _diff = False
    check_mode = False

    def __init__(self, work, params):
        defaults = {name: spec.get("default") for name, spec in module.ARGUMENTS.items()}
        unknown = params.keys() - defaults.keys()
        assert not unknown, unknown
        self.params = {**defaults, **params}
        self.tmpdir = work


class TheModule(unittest.TestCase):
    program = ""

    def setUp(self):
        work = tempfile.TemporaryDirectory(prefix="portmap-ansible-")
        self.addCleanup(work.cleanup)
        self.work = work.name
        self.state = os.path.join(self.work, "state")

    def call(self, **params):
        params = {"executable": self.program, "state_dir": self.state, **params}
        called = Called(self.work, {"state": "present", **params})
        return getattr(module.Run(called), called.params["state"])()

    def portmap(self, *args):
        done = subprocess.run(
            [self.program, *args, "--state-dir", self.state, "--output", "json"],
            capture_output=True,
            check=True,
        )
        return json.loads(done.stdout)

    def test_rules_are_applied_once(self):
        self.assertTrue(self.call(rules=RULES)["changed"])
        self.assertFalse(self.call(rules=RULES)["changed"])
        active = self.portmap("status")["mappings"]
        self.assertEqual({m["port"]: m["to"] for m in active}, {80: 3000, 443: 8443})
        self.call(state="absent")

    def test_a_note_may_begin_with_a_hyphen(self):
        self.call(rules=RULES, note="--force, said the ticket")
        self.call(rules={"ports": {"80": 4000}}, note="-x")
        self.call(state="rolled_back", note="--to=1")
        notes = [g["message"] for g in self.portmap("history")["generations"]]
        for note in ("--force, said the ticket", "-x", "--to=1"):
            self.assertIn(note, notes)
        self.call(state="absent")

    def test_a_name_with_a_newline_is_refused(self):
        for name in ("web\n", "web\n.yaml", "\nweb", "../web", "-web"):
            with self.assertRaisesRegex(rules.RulesError, "cannot be the name of a rules file"):
                files.texts({name: RULES})

    def test_a_key_with_a_newline_is_quoted(self):
        # A rules file has no such port; were the line broken, it would have another mapping.
        for port, target in (("80\n", 3000), ("80: 81\n", 3000), ("80", "3000\n")):
            text = rules.to_text({"ports": {port: target}})
            self.assertEqual(text.count("\n"), 2, text)
            with self.assertRaisesRegex(command.CommandFailed, r"\\n|not a"):
                self.call(state="checked", rules={"ports": {port: target}})

    def test_a_failure_after_the_kernel_was_changed_is_a_change(self):
        half = os.path.join(self.work, "portmap-half")
        with open(half, "w", encoding="utf-8") as script:
            script.write("#!/bin/sh\necho '{\"errors\": [{\"message\": \"half\"}]}' >&2\nexit 3\n")
        os.chmod(half, 0o755)
        with self.assertRaises(command.CommandFailed) as failed:
            self.call(rules=RULES, executable=half)
        self.assertTrue(failed.exception.result["changed"])
        self.assertIn("half", failed.exception.result["msg"])


if __name__ == "__main__":
    TheModule.program = os.path.abspath(sys.argv.pop(1))
    unittest.main(verbosity=1)
