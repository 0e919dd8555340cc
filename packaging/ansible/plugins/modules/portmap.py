#!/usr/bin/python
# Copyright: the portmap authors
# GNU General Public License v2.0 or later
# SPDX-License-Identifier: GPL-2.0-or-later
"""Ansible module: the port mapping of a host."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: portmap
short_description: Redirect service ports of a host with portmap
version_added: 0.1.0
description:
  - Makes the kernel of a host redirect ports as the rules say, in one transaction, for IPv4 and
    IPv6, for other machines and for the host itself. Nothing but portmap's own nftables table is
    touched.
  - When the kernel already does what the rules say, nothing is written and nothing is reported as
    changed.
  - With O(confirm) the mapping is on trial until this task has logged in to the host over a new
    connection. A mapping that locks you out is reverted by the kernel of the host itself, even if
    the controller is no longer running.
requirements:
  - portmap (package C(portmap-nft)) on the host
  - privileges of C(root) on the host, except for O(state=checked)
options:
  state:
    description:
      - V(present) makes the kernel match the rules, all of them and only them.
      - V(absent) removes portmap's table from the kernel, and nothing is restored at boot unless
        O(persist=false).
      - V(checked) checks the rules and changes nothing. It needs no privilege.
      - V(confirmed) keeps a mapping that is on trial. Without a trial nothing is changed.
      - V(rolled_back) goes back to O(generation), or to the generation before the active one. The
        latter is not idempotent, and goes back by one generation at each run.
      - V(persisted) makes the active mapping the one that is restored after a reboot.
    type: str
    choices: [present, absent, checked, confirmed, rolled_back, persisted]
    default: present
  rules:
    description:
      - "The content of a rules file: a mapping with C(ports) and perhaps C(defaults), a list,
        which is taken as C(ports), or the text of a file."
      - For O(state=present) and O(state=checked). Without O(rules), O(src) and O(files), the
        directory C(/etc/portmap) of the host is read.
    type: raw
  src:
    description:
      - Rules files, or directories of them, on the host. They are merged.
    type: list
    elements: path
  files:
    description:
      - Several rules files, a mapping from names to contents as for O(rules). They are merged, and
        a contradiction names both files.
    type: dict
  persist:
    description:
      - Also restore the mapping after a reboot. With O(confirm) this is set up once the mapping is
        confirmed.
      - With O(state=absent), V(true) means that nothing is restored after a reboot, and V(false)
        removes the redirects until the next reboot only.
      - If not given, it is V(true) for O(state=absent) and V(false) otherwise.
    type: bool
  confirm:
    description:
      - Put the mapping on trial for this number of seconds, and keep it only if the checks succeed
        within that time.
      - It should be longer than the connection's timeout plus O(check_timeout).
    type: int
  confirm_by:
    description:
      - V(connection) resets the connection, opens a new one, tries O(check_ports), and confirms
        over the new connection.
      - V(task) leaves the mapping on trial. Do your own checks in later tasks, then keep the
        mapping with a task with O(state=confirmed); otherwise it is reverted automatically.
    type: str
    choices: [connection, task]
    default: connection
  check_ports:
    description:
      - TCP ports that must accept a connection from the controller before the mapping is
        confirmed.
    type: list
    elements: int
    default: []
  check_host:
    description:
      - The address where O(check_ports) are tried. By default the one that Ansible connects to.
    type: str
  check_timeout:
    description:
      - How many seconds to retry each of O(check_ports).
    type: int
    default: 5
  generation:
    description:
      - The generation to go back to, for O(state=rolled_back).
    type: int
  note:
    description:
      - The reason, recorded in the history.
    type: str
  strict:
    description:
      - Treat portmap's warnings as errors.
    type: bool
    default: false
  validate:
    description:
      - Where O(rules) and O(files) are checked before the host is touched.
      - V(auto) checks them on the controller if C(portmap) is installed there. Each host checks
        them as well, before it changes anything.
      - V(controller) fails if C(portmap) is not installed on the controller.
      - V(host) never checks on the controller.
    type: str
    choices: [auto, controller, host]
    default: auto
  executable:
    description:
      - The command on the host, a name or a path.
    type: str
    default: portmap
  state_dir:
    description:
      - The directory of portmap's history on the host, if not C(/var/lib/portmap).
    type: path
attributes:
  check_mode:
    support: full
    description: Uses C(portmap plan), and returns exactly what would change.
  diff_mode:
    support: full
    description: Shows the mapping before and after, as YAML.
  platform:
    support: full
    platforms: linux
    description: A kernel with nftables.
seealso:
  - module: portmap.portmap.portmap_files
author:
  - the portmap authors (@portmap)
"""

EXAMPLES = r"""
- name: Serve 80 from the app on 3000
  portmap.portmap.portmap:
    rules:
      ports:
        80: 3000
        443: 8443
        53/udp: 5353
    persist: true

- name: Apply the files that are on the host, and revert unless the host can still be reached
  portmap.portmap.portmap:
    src: [/etc/portmap]
    confirm: 60
    check_ports: [80, 443]

- name: Put a mapping on trial, and test it with tasks of your own
  portmap.portmap.portmap:
    rules:
      ports:
        80: 3001
    confirm: 120
    confirm_by: task

- name: The test
  ansible.builtin.uri:
    url: "http://{{ ansible_host }}/health"
  delegate_to: localhost

- name: Keep it
  portmap.portmap.portmap:
    state: confirmed

- name: Check the rules on all hosts, and change none if one rejects them
  portmap.portmap.portmap:
    state: checked
    rules: "{{ portmap_rules }}"
  any_errors_fatal: true

- name: Go back to generation 7
  portmap.portmap.portmap:
    state: rolled_back
    generation: 7

- name: Remove all redirects, now and after a reboot
  portmap.portmap.portmap:
    state: absent
"""

RETURN = r"""
changes:
  description: What was changed, or would be.
  returned: success
  type: list
  elements: dict
  sample:
    - action: add
      port: 80
      protocol: tcp
      before: null
      after:
        to: 3000
  contains:
    action:
      description: V(add), V(remove) or V(change).
      type: str
    port:
      description: The port that clients connect to, or the first of a range.
      type: int
    protocol:
      description: For example V(tcp).
      type: str
    before:
      description: The entry that was there.
      type: dict
    after:
      description: The entry that is there.
      type: dict
generation:
  description: The active generation in portmap's history.
  returned: when there is one
  type: int
  sample: 8
persisted:
  description: Whether the active mapping is restored after a reboot.
  returned: when O(persist) or O(state=persisted) was asked for
  type: bool
trial:
  description: The trial that is running.
  returned: with O(confirm_by=task)
  type: dict
  contains:
    left_seconds:
      description: Seconds until the mapping is reverted.
      type: int
confirmed:
  description: Whether the mapping was kept after the checks.
  returned: with O(confirm) or O(state=confirmed)
  type: bool
errors:
  description: What portmap found wrong, in order.
  returned: on failure
  type: list
  elements: dict
  contains:
    file:
      description: The rules file; V(<stdin>) for O(rules).
      type: str
    line:
      description: The line, from 1.
      type: int
    column:
      description: The column, from 1.
      type: int
    severity:
      description: V(error) or V(warning).
      type: str
    message:
      description: What is wrong.
      type: str
    help:
      description: What to do.
      type: str
cmd:
  description: The command that failed.
  returned: on failure
  type: list
  elements: str
"""

import tempfile

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.portmap.portmap.plugins.module_utils.command import (
    CommandFailed,
    Portmap,
    is_persisted,
    running_trial,
)
from ansible_collections.portmap.portmap.plugins.module_utils.files import (
    renamed,
    stage,
    texts,
)
from ansible_collections.portmap.portmap.plugins.module_utils.rules import (
    RulesError,
    to_text,
)

ARGUMENTS = {
    "state": {
        "type": "str",
        "default": "present",
        "choices": ["present", "absent", "checked", "confirmed", "rolled_back", "persisted"],
    },
    "rules": {"type": "raw"},
    "src": {"type": "list", "elements": "path"},
    "files": {"type": "dict"},
    "persist": {"type": "bool"},
    "confirm": {"type": "int"},
    "confirm_by": {"type": "str", "default": "connection", "choices": ["connection", "task"]},
    "check_ports": {"type": "list", "elements": "int", "default": []},
    "check_host": {"type": "str"},
    "check_timeout": {"type": "int", "default": 5},
    "generation": {"type": "int"},
    "note": {"type": "str"},
    "strict": {"type": "bool", "default": False},
    "validate": {"type": "str", "default": "auto", "choices": ["auto", "controller", "host"]},
    "executable": {"type": "str", "default": "portmap"},
    "state_dir": {"type": "path"},
}


class Run:
    """One call of the module. Each state is one method, which returns the result."""

    def __init__(self, module):
        self.module = module
        self.params = module.params
        self.check = module.check_mode
        self.portmap = Portmap(module, self.params["executable"], self.params["state_dir"])
        self.staging = None
        self.persist = self.params["persist"]
        if self.persist is None:
            # What was removed does not come back with the next boot.
            self.persist = self.params["state"] == "absent"

    def files(self):
        """The arguments and the standard input that name the rules."""
        args = ["--strict"] if self.params["strict"] else []
        if self.params["rules"] is not None:
            return args + ["-"], to_text(self.params["rules"]).encode()
        if self.params["files"] is not None:
            self.staging = tempfile.mkdtemp(dir=self.module.tmpdir, prefix="portmap-")
            stage(self.staging, texts(self.params["files"]))
            return args + ["--", self.staging], None
        return args + ["--"] + (self.params["src"] or []), None

    def history(self):
        # As one argument, because a note may begin with a hyphen.
        return ["--message=%s" % self.params["note"]] if self.params["note"] else []

    def result(self, document, **more):
        """Ansible's result for a plan, apply, clear or rollback document."""
        result = {
            "changed": bool(document.get("changed")),
            "changes": document.get("changes") or [],
        }
        if document.get("generation") is not None:
            result["generation"] = document["generation"]
        diff = document.get("diff")
        if diff and self.module._diff:
            result["diff"] = {
                "before": diff.get("before") or "",
                "after": diff.get("after") or "",
                "before_header": "active mapping",
                "after_header": "wanted mapping",
            }
        result.update(more)
        return result

    def with_persisted(self, result, was):
        """Adds that the mapping is restored at boot, which is a change if it was not."""
        result["changed"] = result["changed"] or not was
        result["persisted"] = was if self.check and not result["changed"] else not self.check
        return result

    def present(self):
        args, data = self.files()
        if self.check:
            result = self.result(self.portmap.run("plan", *args, data=data))
            if self.persist:
                was = is_persisted(self.portmap.run("status"))
                result = self.with_persisted(result, was)
            return result
        if self.params["confirm"]:
            trial = ["--confirm", "%ds" % self.params["confirm"]]
            args = trial + self.history() + args
            result = self.result(self.portmap.run("apply", *args, data=data))
            if result["changed"]:
                result["trial"] = running_trial(self.portmap.run("status"))
            return result
        was = True
        if self.persist:
            was = is_persisted(self.portmap.run("status"))
            args = ["--persist"] + args
        document = self.portmap.run("apply", *self.history(), *args, data=data)
        result = self.result(document)
        return self.with_persisted(result, was) if self.persist else result

    def absent(self):
        if self.check:
            result = self.result(self.portmap.run("clear", "--dry-run"))
        else:
            result = self.result(self.portmap.run("clear"))
        if self.persist:
            result = self.forgotten(result)
        return result

    def forgotten(self, result):
        """Adds that nothing is restored at boot, which is a change if something was."""
        status = self.portmap.run("status")
        was = status.get("persisted") is not None
        if was and not self.check:
            self.portmap.run("persist", "--off")
        result["changed"] = result["changed"] or was
        result["persisted"] = was and self.check
        return result

    def checked(self):
        args, data = self.files()
        self.portmap.run("check", *args, data=data)
        return {"changed": False, "changes": []}

    def confirmed(self):
        trial = running_trial(self.portmap.run("status"))
        if not trial:
            return {"changed": False, "changes": [], "confirmed": False}
        if self.check:
            return {"changed": True, "changes": [], "confirmed": False, "trial": trial}
        args = ["--persist"] if self.persist else []
        result = self.result(self.portmap.run("confirm", *args), changed=True, confirmed=True)
        if self.persist:
            result["persisted"] = True
        return result

    def rolled_back(self):
        args = []
        if self.params["generation"] is not None:
            args += ["--to", str(self.params["generation"])]
        if self.check:
            args.append("--dry-run")
        else:
            args += self.history()
        return self.result(self.portmap.run("rollback", *args))

    def persisted(self):
        status = self.portmap.run("status")
        changed = not is_persisted(status)
        if not self.check:
            changed = bool(self.portmap.run("persist").get("changed", changed))
        result = {"changed": changed, "changes": [], "persisted": not (changed and self.check)}
        if status.get("generation") is not None:
            result["generation"] = status["generation"]
        return result


def wrong_together(params):
    """Why the parameters cannot be combined, or None."""
    state = params["state"]
    if state not in ("present", "checked"):
        for name in ("rules", "src", "files"):
            if params[name] is not None:
                return "%s cannot be used with state=%s" % (name, state)
    if params["generation"] is not None and state != "rolled_back":
        return "generation can only be used with state=rolled_back"
    if params["confirm"] is not None:
        if state != "present":
            return "confirm can only be used with state=present"
        if params["confirm"] < 1:
            return "confirm must be at least 1 second"
    return None


def main():
    module = AnsibleModule(
        argument_spec=ARGUMENTS,
        mutually_exclusive=[("rules", "src", "files")],
        supports_check_mode=True,
    )
    nonsense = wrong_together(module.params)
    if nonsense:
        module.fail_json(msg=nonsense)
    run = Run(module)
    try:
        result = getattr(run, module.params["state"])()
    except RulesError as error:
        module.fail_json(msg=str(error))
    except CommandFailed as error:
        result = error.result
        module.fail_json(**(renamed(result, run.staging, None) if run.staging else result))
    except OSError as error:
        module.fail_json(
            msg="cannot run %s: %s. Is the package portmap-nft installed on this host?"
            % (module.params["executable"], error)
        )
    for warning in run.portmap.warnings:
        module.warn(warning)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
