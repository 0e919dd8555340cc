#!/usr/bin/python
# Copyright: the portmap authors
# GNU General Public License v2.0 or later
# SPDX-License-Identifier: GPL-2.0-or-later
"""Ansible module: a set of rules files on a host."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: portmap_files
short_description: Write rules files of portmap, checked together
version_added: 0.1.0
description:
  - Writes rules files into a directory of the host, by default C(/etc/portmap).
  - portmap merges the files of a directory, so a file that is valid by itself may conflict with
    another one. The directory as it would become is checked with C(portmap check) first; if there
    is an error, no file is written.
  - The kernel is not changed. M(portmap.portmap.portmap) does that.
options:
  files:
    description:
      - A mapping from file names, without C(.yaml), to contents. A content is a mapping with
        C(ports) and perhaps C(defaults), a list, which is taken as C(ports), or a text.
    type: dict
    required: true
  path:
    description:
      - The directory. If it does not exist, it is created, writable by root only.
    type: path
    default: /etc/portmap
  exclusive:
    description:
      - Remove the directory's other rules files.
    type: bool
    default: false
  strict:
    description:
      - Treat portmap's warnings as errors.
    type: bool
    default: false
  executable:
    description:
      - The command on the host, a name or a path.
    type: str
    default: portmap
attributes:
  check_mode:
    support: full
    description:
      - The files are checked, and nothing is written. If portmap is not installed on the host yet,
        they cannot be checked, and RV(checked) is V(false).
  diff_mode:
    support: full
    description: Shows each file before and after.
  platform:
    support: full
    platforms: linux
    description: Linux only, as portmap itself.
seealso:
  - module: portmap.portmap.portmap
author:
  - the portmap authors (@portmap)
"""

EXAMPLES = r"""
- name: Write two rules files and remove all others
  portmap.portmap.portmap_files:
    files:
      web:
        ports:
          80: 3000
          443: 8443
      mail:
        ports:
          25: 2525
    exclusive: true
"""

RETURN = r"""
written:
  description: The files that were written, or would be.
  returned: success
  type: list
  elements: str
  sample: [/etc/portmap/web.yaml]
removed:
  description: The files that were removed, or would be.
  returned: success
  type: list
  elements: str
  sample: []
content:
  description:
    - The names and texts of all files of the directory as they are now, or in check mode would
      be. Pass it to the option O(portmap.portmap.portmap#module:files) in check mode, to see what
      applying the files would change.
  returned: success
  type: dict
checked:
  description: Whether the files could be checked. V(false) only in check mode, without portmap.
  returned: success
  type: bool
errors:
  description: What portmap found wrong, in order. See M(portmap.portmap.portmap).
  returned: on failure
  type: list
  elements: dict
"""

import os
import tempfile

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.portmap.portmap.plugins.module_utils.command import (
    CommandFailed,
    Portmap,
)
from ansible_collections.portmap.portmap.plugins.module_utils.files import (
    in_directory,
    renamed,
    stage,
    texts,
    write,
)
from ansible_collections.portmap.portmap.plugins.module_utils.rules import RulesError


def check(module, wanted, directory):
    """Checks the directory as it would become; errors have the names that the files would have.

    Returns False if portmap is not installed; fails the module if there is an error.
    """
    staging = tempfile.mkdtemp(dir=module.tmpdir, prefix="portmap-")
    stage(staging, wanted)
    args = ["--strict"] if module.params["strict"] else []
    try:
        Portmap(module, module.params["executable"]).run("check", *args, "--", staging)
    except CommandFailed as error:
        result = renamed(error.result, staging, directory)
        result["msg"] += "\nNo file was changed."
        module.fail_json(**result)
    except OSError as error:
        if not module.check_mode:
            module.fail_json(
                msg="cannot run %s: %s. Is the package portmap-nft installed on this host?"
                % (module.params["executable"], error)
            )
        return False
    return True


def sections(directory, present, wanted):
    """One before-and-after pair for each file that differs."""
    diffs = []
    for name in sorted(set(present) | set(wanted)):
        before, after = present.get(name), wanted.get(name)
        if before != after:
            path = os.path.join(directory, name)
            diffs.append(
                {
                    "before": before or "",
                    "after": after or "",
                    "before_header": path if before is not None else "%s (absent)" % path,
                    "after_header": path if after is not None else "%s (absent)" % path,
                }
            )
    return diffs


def place(module, directory, present, wanted):
    """Writes what differs, each file in one step, and removes what is not wanted."""
    if not os.path.isdir(directory):
        os.makedirs(directory, 0o755)
    for name, text in wanted.items():
        if present.get(name) != text:
            new = os.path.join(module.tmpdir, "portmap-new-%s" % name)
            write(new, text, 0o644)
            module.atomic_move(new, os.path.join(directory, name))
            os.chmod(os.path.join(directory, name), 0o644)
    for name in present:
        if name not in wanted:
            os.unlink(os.path.join(directory, name))


def main():
    module = AnsibleModule(
        argument_spec={
            "files": {"type": "dict", "required": True},
            "path": {"type": "path", "default": "/etc/portmap"},
            "exclusive": {"type": "bool", "default": False},
            "strict": {"type": "bool", "default": False},
            "executable": {"type": "str", "default": "portmap"},
        },
        supports_check_mode=True,
    )
    directory = module.params["path"]
    present = in_directory(directory)
    try:
        wanted = {} if module.params["exclusive"] else dict(present)
        wanted.update(texts(module.params["files"]))
    except RulesError as error:
        module.fail_json(msg=str(error))
    checked = check(module, wanted, directory) if wanted else True
    diffs = sections(directory, present, wanted)
    result = {
        "changed": bool(diffs),
        "written": sorted(
            os.path.join(directory, n) for n, text in wanted.items() if present.get(n) != text
        ),
        "removed": sorted(os.path.join(directory, n) for n in present if n not in wanted),
        "content": wanted,
        "checked": checked,
    }
    if module._diff:
        result["diff"] = diffs
    if diffs and not module.check_mode:
        place(module, directory, present, wanted)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
