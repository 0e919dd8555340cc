"""Writes what every host said as JSON, for the tests to read."""

from __future__ import annotations

import json
import os
import time

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: recap
type: aggregate
short_description: results as JSON
description: For the tests of the collection.
"""


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "recap"

    def __init__(self):
        super().__init__()
        self.results = []
        self.started = {}

    def v2_runner_on_start(self, host, task):
        self.started[host.get_name(), task._uuid] = time.monotonic()

    def _note(self, answer, *_args, **_options):
        began = self.started.get((answer._host.get_name(), answer._task._uuid))
        self.results.append(
            {
                "host": answer._host.get_name(),
                "task": answer._task.get_name(),
                "seconds": began and time.monotonic() - began,
                "result": json.loads(json.dumps(answer._result, default=str)),
            }
        )

    v2_runner_on_ok = v2_runner_on_failed = v2_runner_on_unreachable = _note
    v2_runner_on_skipped = _note

    def v2_playbook_on_stats(self, stats):
        recap = {host: stats.summarize(host) for host in stats.processed}
        path = os.environ.get("PORTMAP_REPORT")
        if path:
            with open(path, "w", encoding="utf-8") as file:
                json.dump({"recap": recap, "results": self.results}, file)
