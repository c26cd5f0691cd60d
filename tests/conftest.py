"""What a session of tests shares is ended with it: a worker of pytest-xdist has no time left for that later."""

from __future__ import annotations

import sys


def pytest_sessionfinish() -> None:
    if shared := sys.modules.get("tests.rigs.kube_shared"):
        shared.stop_shared()
