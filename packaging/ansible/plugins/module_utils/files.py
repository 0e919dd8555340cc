# Copyright: the portmap authors
# GNU General Public License v2.0 or later
# SPDX-License-Identifier: GPL-2.0-or-later
"""Sets of rules files: those that exist, those that are wanted, and a directory to check them in."""

from __future__ import annotations

import os
import re

from ansible_collections.portmap.portmap.plugins.module_utils.rules import (
    RulesError,
    to_text,
)

# For fullmatch: `$` would let a newline at the end pass.
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_SUFFIXES = (".yaml", ".yml")


def texts(files):
    """File names with their suffix, to texts. Raises RulesError."""
    if not isinstance(files, dict):
        raise RulesError("files must be a mapping from names to contents")
    found = {}
    for name, content in files.items():
        name = str(name)
        if not _NAME.fullmatch(name):
            raise RulesError("%r cannot be the name of a rules file" % name)
        file_name = name if name.endswith(_SUFFIXES) else name + ".yaml"
        try:
            found[file_name] = to_text(content)
        except RulesError as error:
            raise RulesError("%s: %s" % (file_name, error)) from error
    return found


def in_directory(directory):
    """The rules files that are there: names to texts."""
    if not os.path.isdir(directory):
        return {}
    found = {}
    for name in sorted(os.listdir(directory)):
        if name.endswith(_SUFFIXES):
            path = os.path.join(directory, name)
            with open(path, encoding="utf-8", errors="surrogateescape") as file:
                found[name] = file.read()
    return found


def write(path, text, mode):
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with open(descriptor, "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(text)
    os.chmod(path, mode)


def stage(directory, wanted):
    """Writes a set into an empty directory that only its owner can enter."""
    for name, text in wanted.items():
        write(os.path.join(directory, name), text, 0o600)


def renamed(result, staging, directory):
    """A failed result that names the files where the user knows them."""
    old = os.path.join(staging, "")
    new = os.path.join(directory, "") if directory else ""

    def rename(value):
        if isinstance(value, str):
            return value.replace(old, new).replace(staging, directory or "files")
        if isinstance(value, list):
            return [rename(v) for v in value]
        if isinstance(value, dict):
            return {k: rename(v) for k, v in value.items()}
        return value

    return {k: rename(v) for k, v in result.items()}
