# Copyright: the portmap authors
# GNU General Public License v2.0 or later
# SPDX-License-Identifier: GPL-2.0-or-later
"""The controller's half of the module portmap.

Two things cannot be done on the host: rejecting rules before any host is changed, and finding out
whether the host can still be reached. A module runs inside one connection, and a connection that is
already tracked by the kernel keeps its translation, so it says nothing about the next one. A trial
is therefore confirmed from here, over a connection that was opened after the new mapping was
active.
"""

from __future__ import annotations

import socket
import time

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.portmap.portmap.plugins.module_utils.rules import RulesError
from ansible_collections.portmap.portmap.plugins.plugin_utils.controller import (
    refused_on_controller,
)

display = Display()

MODULE = "portmap.portmap.portmap"
# The timers of the kernel and of the controller may differ by a second.
GRACE_SECONDS = 2
TRIES = 3


class LockedOut(Exception):
    """The host does not answer over a new connection as the task requires."""


class ActionModule(ActionBase):
    TRANSFERS_FILES = False

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        self._vars = task_vars or {}
        args = self._task.args
        refused = self._refused_here(args)
        if refused:
            result.update(refused)
            return result
        on_trial = args.get("confirm") and args.get("state", "present") == "present"
        if not on_trial or self._task.check_mode:
            result.update(self._module(args))
        else:
            result.update(self._on_trial(args))
        return result

    # Before the host is touched

    def _refused_here(self, args):
        """The failed result when the rules are wrong, as far as the controller can tell."""
        where = args.get("validate", "auto")
        if where == "host":
            return None
        try:
            if args.get("rules") is not None:
                wanted = {"rules": args["rules"]}
            elif args.get("files") is not None:
                wanted = args["files"]
            else:
                return None
            return refused_on_controller(wanted, args.get("strict"), where == "controller")
        except RulesError as error:
            return {"failed": True, "changed": False, "msg": str(error)}

    # The trial

    def _on_trial(self, args):
        foreseen = self._module(args, check_mode=True)
        if foreseen.get("failed"):
            return foreseen
        if not foreseen.get("changes"):
            untried = {k: v for k, v in args.items() if k not in ("confirm", "confirm_by")}
            return foreseen if not foreseen.get("changed") else self._module(untried)
        try:
            started = self._module(args)
        except AnsibleConnectionFailure as error:
            # Redirecting the port of this connection may break it; only a new one can tell.
            display.vvv("portmap: the connection broke while applying: %s" % error)
            started = foreseen
        # The trial began before the module answered, so it is over by then.
        deadline = time.monotonic() + int(args["confirm"])
        if started.get("failed") or not started.get("changed"):
            return started
        if args.get("confirm_by", "connection") == "task":
            started["confirmed"] = False
            return started
        started.pop("trial", None)
        try:
            kept = self._confirm(args)
        except LockedOut as error:
            return self._back(args, started, str(error), deadline)
        started["confirmed"] = True
        for key in ("generation", "persisted"):
            if key in kept:
                started[key] = kept[key]
        return started

    def _confirm(self, args):
        """Reconnects, tries the ports and confirms. Raises LockedOut if any of it fails."""
        try:
            self._connection.reset()
            reached = self._module({**self._base(args), "state": "confirmed"}, check_mode=True)
        except AnsibleConnectionFailure as error:
            raise LockedOut(
                "the host cannot be reached over a new connection: %s" % error
            ) from error
        self._demand(reached)
        for port in args.get("check_ports") or []:
            self._try_port(args, int(port))
        wanted = {**self._base(args), "state": "confirmed", "persist": args.get("persist", False)}
        try:
            kept = self._module(wanted)
        except AnsibleConnectionFailure as error:
            raise LockedOut(
                "the host was lost before the mapping was confirmed: %s" % error
            ) from error
        self._demand(kept)
        return kept

    @staticmethod
    def _demand(answer):
        """The module must have worked, and the trial must still have been running."""
        if answer.get("failed"):
            raise LockedOut(
                "portmap cannot be used over a new connection: %s" % answer.get("msg", answer)
            )
        if not answer.get("changed"):
            raise LockedOut("the trial had expired before the host could be reached")

    def _try_port(self, args, port):
        host = args.get("check_host") or self._address()
        until = time.monotonic() + int(args.get("check_timeout", 5))
        while True:
            left = until - time.monotonic()
            try:
                socket.create_connection((host, port), timeout=max(left, 0.1)).close()
                return
            except OSError as error:
                if time.monotonic() >= until:
                    raise LockedOut(
                        "port %d of %s does not answer the controller: %s" % (port, host, error)
                    ) from error
                time.sleep(0.2)

    def _address(self):
        for name in ("ansible_ssh_host", "ansible_host", "inventory_hostname"):
            if self._vars.get(name):
                return self._templar.template(self._vars[name])
        return self._task.delegate_to or "localhost"

    # Reverting

    def _back(self, args, started, why, deadline):
        """The failed result of a trial that was not confirmed, once it is reverted."""
        went_back = self._roll_back_now(args) or self._wait_for_expiry(args, deadline)
        if went_back:
            ending = "the previous mapping is active again (%s)" % went_back
        else:
            ending = (
                "nothing was confirmed, so the kernel reverts to the previous mapping "
                "automatically; the host has not answered since then, for another reason"
            )
            # It does not answer, so its temporary directory cannot be removed.
            self._connection._shell.tmpdir = None
        return {
            "failed": True,
            "changed": False,
            "confirmed": False,
            "rolled_back": bool(went_back),
            "changes": started.get("changes", []),
            "msg": "The new mapping was not kept: %s. %s." % (why, ending[0].upper() + ending[1:]),
        }

    def _roll_back_now(self, args):
        """Ends the trial if the host can be reached. Returns how it was reverted, or None."""
        try:
            self._connection.reset()
            trial = self._module({**self._base(args), "state": "confirmed"}, check_mode=True)
            if trial.get("failed"):
                return None
            if not trial.get("changed"):
                return "the trial ran out"
            answer = self._module({**self._base(args), "state": "rolled_back"})
            return None if answer.get("failed") else "rolled back at once"
        except AnsibleConnectionFailure:
            return None

    def _wait_for_expiry(self, args, deadline):
        """Waits until the kernel has reverted the trial, and checks that."""
        left = deadline + GRACE_SECONDS - time.monotonic()
        if left > 0:
            display.vvv("portmap: waiting %.0f s for the trial to run out" % left)
            time.sleep(left)
        for _again in range(TRIES):
            try:
                self._connection.reset()
                trial = self._module({**self._base(args), "state": "confirmed"}, check_mode=True)
            except AnsibleConnectionFailure as error:
                display.vvv("portmap: still no connection: %s" % error)
                time.sleep(GRACE_SECONDS)
                continue
            if not trial.get("failed") and not trial.get("changed"):
                return "the trial ran out"
        return None

    # The host's half

    @staticmethod
    def _base(args):
        return {k: args[k] for k in ("executable", "state_dir") if k in args}

    def _module(self, args, check_mode=None):
        before = self._task.check_mode
        if check_mode is not None:
            self._task.check_mode = check_mode
        try:
            answer = self._execute_module(
                module_name=MODULE, module_args=dict(args), task_vars=self._vars
            )
        finally:
            self._task.check_mode = before
        if answer.get("unreachable"):
            raise AnsibleConnectionFailure(answer.get("msg", "unreachable"))
        return answer
