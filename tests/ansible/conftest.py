"""The world that the tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from world import World


@pytest.fixture(scope="session")
def world():
    path = Path(os.environ["PORTMAP_WORK"]) / "world"
    path.mkdir(exist_ok=True)
    made = World(path)
    try:
        made.start()
        yield made
    finally:
        made.stop()
