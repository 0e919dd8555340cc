# Copyright: the portmap authors
# GNU General Public License v2.0 or later
# SPDX-License-Identifier: GPL-2.0-or-later
"""Checks rules on the controller, before any host is changed."""

from __future__ import annotations

import shutil
import subprocess
import tempfile

from ansible.module_utils.parsing.convert_bool import boolean
from ansible_collections.portmap.portmap.plugins.module_utils.command import explain
from ansible_collections.portmap.portmap.plugins.module_utils.files import (
    renamed,
    stage,
    texts,
)


def refused_on_controller(files, strict=False, required=False):
    """The failed result if the controller's portmap rejects the files, otherwise None.

    None as well if portmap is not installed there, unless it is required. Raises RulesError.
    """
    wanted = texts(files)
    command = shutil.which("portmap")
    if command is None:
        if not required:
            return None
        return {
            "failed": True,
            "changed": False,
            "msg": "validate=controller, but there is no portmap on the controller's PATH",
        }
    args = [command, "check", "--output", "json"]
    if boolean(strict or False):
        args.append("--strict")
    with tempfile.TemporaryDirectory(prefix="portmap-") as staging:
        stage(staging, wanted)
        done = subprocess.run(args + ["--", staging], capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return None
        message, errors = explain(args, done.returncode, done.stderr or done.stdout)
        result = {
            "failed": True,
            "changed": False,
            "msg": message + "\nNo host was touched: the rules were rejected on the controller.",
            "errors": errors,
        }
        return renamed(result, staging, None)
