# Copyright: the portmap authors
# GNU General Public License v2.0 or later
# SPDX-License-Identifier: GPL-2.0-or-later
"""portmap's command line as Python values.

Every command prints one JSON document on standard output, or one with C(errors) on standard
error. No other file depends on that.
"""

from __future__ import annotations

import json
import os
import subprocess

# The kernel was changed, but something after that failed.
CHANGED_AND_FAILED = 3
USAGE = 64


class CommandFailed(Exception):
    """portmap failed. C(errors) is its list of problems, C(result) the result for Ansible."""

    def __init__(self, message, errors, command, rc, stderr):
        super().__init__(message)
        self.errors = errors
        self.result = {
            "msg": message,
            "changed": rc == CHANGED_AND_FAILED,
            "errors": errors,
            "cmd": command,
            "rc": rc,
            "stderr": stderr,
        }


def sentence(error):
    """One problem as one line: C(file:line:column: message; help)."""
    place = [str(error[k]) for k in ("file", "line", "column") if error.get(k) is not None]
    text = error.get("message") or "unknown error"
    if place:
        text = "%s: %s" % (":".join(place), text)
    if error.get("help"):
        text = "%s (%s)" % (text, error["help"])
    return text


def parse_errors(stderr):
    """The problems on standard error; plain text is taken as one problem.

    Notes in text may come before the document.
    """
    start = ("\n" + stderr).find("\n{")
    try:
        found = json.loads(stderr[max(start, 0) :])["errors"]
        return [e if isinstance(e, dict) else {"message": str(e)} for e in found]
    except (ValueError, KeyError, TypeError):
        text = stderr.strip()
        return [{"message": text}] if text else []


def explain(command, rc, stderr):
    """What to tell the user when portmap failed: a message and the list of problems."""
    errors = parse_errors(stderr)
    hard = [e for e in errors if e.get("severity", "error") != "warning"] or errors
    verb = command[1] if len(command) > 1 else command[0]
    if not hard:
        message = "portmap %s failed with exit code %d and no message" % (verb, rc)
    elif len(hard) == 1:
        message = "portmap %s: %s" % (verb, sentence(hard[0]))
    else:
        message = "portmap %s: %d problems:\n%s" % (
            verb,
            len(hard),
            "\n".join("- " + sentence(e) for e in hard),
        )
    if rc == USAGE:
        message += "\nThe portmap on this host does not accept these arguments: is it too old?"
    elif rc < 0:
        message += "\nIt was killed by signal %d." % -rc
    return message, errors


def execute(command, data):
    """Exit code, standard output and standard error.

    Not AnsibleModule.run_command: that fails where the command ends before it has read its input,
    and with it goes what the command has said and whether it has changed something.
    """
    done = subprocess.run(
        command,
        input=data or b"",
        capture_output=True,
        check=False,
        env={**os.environ, "LC_ALL": "C.UTF-8", "NO_COLOR": "1"},
    )
    out, err = (text.decode("utf-8", "replace") for text in (done.stdout, done.stderr))
    return done.returncode, out, err


class Portmap:
    """Runs portmap on this host for one module call."""

    def __init__(self, module, executable, state_dir=None):
        path = executable
        if "/" not in executable:
            path = module.get_bin_path(executable, opt_dirs=["/usr/local/bin"])
        self.path = path or executable
        self.state_dir = state_dir
        self.warnings = []

    def run(self, verb, *args, data=None):
        """One command: its JSON document, or CommandFailed."""
        command = [self.path, verb, "--output", "json"]
        if self.state_dir:
            command.append("--state-dir=%s" % self.state_dir)
        command += args
        rc, out, err = execute(command, data)
        if rc == CHANGED_AND_FAILED:
            document = restored_by_nothing(out)
            if document is not None:
                # The mapping is as it was asked to be, and the unit may be enabled by a later task.
                self.warnings += [sentence(e) for e in parse_errors(err)]
                return document
        if rc != 0:
            message, errors = explain(command, rc, err if err.strip() else out)
            raise CommandFailed(message, errors, command, rc, err)
        try:
            document = json.loads(out) if out.strip() else {}
        except ValueError:
            message = "portmap %s did not print JSON: %s" % (verb, out[:200])
            raise CommandFailed(message, [], command, rc, err) from None
        version = document.get("version", 1)
        if version != 1:
            message = (
                "portmap %s prints version %s of its JSON; this module reads version 1"
                % (
                    verb,
                    version,
                )
            )
            raise CommandFailed(message, [], command, rc, err)
        for warning in document.get("warnings") or []:
            self.warnings.append(sentence(warning) if isinstance(warning, dict) else str(warning))
        return document


def restored_by_nothing(out):
    """The document of a command that persisted a mapping which nothing restores at boot, or None."""
    try:
        document = json.loads(out)
        return document if document["persisted"] and document["boot"]["because"] else None
    except (ValueError, KeyError, TypeError):
        return None


def is_persisted(status):
    """Whether boot restores what is active now, from a status document."""
    persisted = status.get("persisted")
    return persisted is not None and persisted == status.get("generation")


def running_trial(status):
    """The trial of a status document, or None. One that has expired may still be in it."""
    trial = status.get("trial")
    return trial if trial and trial.get("left_seconds", 0) > 0 else None
