# Copyright: the portmap authors
# GNU General Public License v2.0 or later
# SPDX-License-Identifier: GPL-2.0-or-later
"""The controller's half of the module portmap_files: rejects wrong files before any host is changed."""

from __future__ import annotations

from ansible.plugins.action import ActionBase
from ansible_collections.portmap.portmap.plugins.module_utils.rules import RulesError
from ansible_collections.portmap.portmap.plugins.plugin_utils.controller import (
    refused_on_controller,
)


class ActionModule(ActionBase):
    TRANSFERS_FILES = False

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        args = self._task.args
        refused = None
        if args.get("files"):
            try:
                refused = refused_on_controller(args["files"], args.get("strict"))
            except RulesError as error:
                refused = {"failed": True, "changed": False, "msg": str(error)}
        if refused:
            result.update(refused)
        else:
            result.update(
                self._execute_module(
                    module_name="portmap.portmap.portmap_files",
                    module_args=dict(args),
                    task_vars=task_vars,
                )
            )
        return result
