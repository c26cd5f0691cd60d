"""
What holds for a whole session of tests.

What it shares is ended with it: a worker of pytest-xdist has no time left for that later. Workers take ports of ranges of
their own: one that was found free by two of them was bound by the faster one only.
"""

from __future__ import annotations

import os
import sys


def pytest_configure() -> None:
    worker, workers = os.environ.get("PYTEST_XDIST_WORKER"), os.environ.get("PYTEST_XDIST_WORKER_COUNT")
    if worker and workers:
        os.environ["BLUEGREEN_PORTS"] = f"{int(worker.removeprefix('gw')) + 1}/{workers}"


def pytest_sessionfinish() -> None:
    if shared := sys.modules.get("tests.rigs.kube_shared"):
        shared.stop_shared()
