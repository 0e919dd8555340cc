# Copyright: the portmap authors
# GNU General Public License v2.0 or later
# SPDX-License-Identifier: GPL-2.0-or-later
"""The text of a rules file, from a value of a playbook.

Hosts need no PyYAML for this: only the small part of YAML that a rules file uses is written, one
port per line, so that an error in line 3 is in the third line that a reader sees.
"""

from __future__ import annotations

import json
import re

# All of them are for fullmatch: `$` would let a newline at the end pass.
# Ports, ranges, protocols and service names: what YAML reads back as the same plain scalar.
_PLAIN_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9_+./-]*")
# A port or a range that came through a template as text is still a port.
_NUMBERS = re.compile(r"[1-9][0-9]{0,4}(-[1-9][0-9]{0,4})?")
# YAML 1.1 and 1.2 words that are not strings.
_WORDS = frozenset(("true", "false", "yes", "no", "on", "off", "null", "y", "n"))


class RulesError(ValueError):
    """The value cannot be the content of a rules file."""


def _key(value):
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise RulesError("a key must be a port or a name, not %s" % type(value).__name__)
    text = str(value)
    if _PLAIN_KEY.fullmatch(text) and text.lower() not in _WORDS:
        return text
    return json.dumps(text, ensure_ascii=False)


def _scalar(value, key=None):
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, str):
        if key != "comment" and _NUMBERS.fullmatch(value):
            return value
        if key in ("to", "port", "scope") and _PLAIN_KEY.fullmatch(value):
            return value if value.lower() not in _WORDS else json.dumps(value)
        return json.dumps(value, ensure_ascii=False)
    raise RulesError("a value must be a scalar, a list or a mapping, not %s" % type(value).__name__)


def _flow(value, key=None):
    if isinstance(value, dict):
        if not value:
            return "{}"
        inner = ", ".join("%s: %s" % (_key(k), _flow(v, str(k))) for k, v in value.items())
        return "{ %s }" % inner
    if isinstance(value, (list, tuple)):
        return "[%s]" % ", ".join(_flow(v, key) for v in value)
    return _scalar(value, key)


def _in_order(ports):
    """A mapping's entries by port: the order of a variable's keys is not significant."""

    def rank(item):
        number = re.match(r"^[0-9]+", str(item[0]))
        return (0, int(number.group()), str(item[0])) if number else (1, 0, str(item[0]))

    return sorted(ports.items(), key=rank)


def to_text(rules):
    """The YAML text of rules: a mapping is a whole file, a list is its C(ports), text is kept.

    Raises RulesError for a value that no rules file can hold. Whether the ports are valid is
    checked by portmap.
    """
    if isinstance(rules, str):
        return rules if rules.endswith("\n") else rules + "\n"
    if isinstance(rules, (list, tuple)):
        rules = {"ports": list(rules)}
    if not isinstance(rules, dict):
        raise RulesError(
            "rules must be a mapping with 'ports', a list of entries, or text, not %s"
            % type(rules).__name__
        )
    lines = []
    for name, section in rules.items():
        if isinstance(section, dict) and section:
            lines.append("%s:" % _key(name))
            entries = _in_order(section) if name == "ports" else section.items()
            for key, value in entries:
                place = "to" if name == "ports" else str(key)
                lines.append("  %s: %s" % (_key(key), _flow(value, place)))
        elif isinstance(section, (list, tuple)) and section:
            lines.append("%s:" % _key(name))
            lines.extend("  - %s" % _flow(value) for value in section)
        else:
            lines.append("%s: %s" % (_key(name), _flow(section, str(name))))
    return "".join(line + "\n" for line in lines)
