# Copyright: the portmap authors
# GNU General Public License v2.0 or later
# SPDX-License-Identifier: GPL-2.0-or-later
"""Filters of the collection portmap.portmap."""

from __future__ import annotations

from ansible.errors import AnsibleFilterError
from ansible_collections.portmap.portmap.plugins.module_utils.rules import (
    RulesError,
    to_text,
)


def rules_text(value):
    try:
        return to_text(value)
    except RulesError as error:
        raise AnsibleFilterError("portmap.portmap.rules_text: %s" % error) from error


class FilterModule:
    def filters(self):
        return {"rules_text": rules_text}
