"""What the figures were measured on, and where its processor time went."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from time import monotonic
from typing import Any, NamedTuple

import psutil

from demo.haproxy import haproxy_binary

PACKAGES = ("apache-airflow", "aiohttp", "uvloop")


def facts() -> dict[str, Any]:
    """Cores, memory and versions."""
    return {
        "cores": cores(),
        "processor": _processor(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "haproxy": _haproxy(),
        **{package: _package(package) for package in PACKAGES},
    }


def cores() -> int:
    """Cores that we may use."""
    return len(os.sched_getaffinity(0))


class Used(NamedTuple):
    """Shares (0 to 1) of all cores' time, of one stretch."""

    ours: float
    everything: float
    seconds: float


@dataclass
class Meter:
    """
    Processor time from here on.

    :param pids: the processes that are counted one by one; they must live until `used` is called
    """

    pids: Iterable[int]
    _began: float = field(init=False)
    _ours: float = field(init=False)
    _idle: float = field(init=False)
    _total: float = field(init=False)

    def __post_init__(self) -> None:
        self.pids = tuple(self.pids)
        self._began, self._ours = monotonic(), _seconds(self.pids)
        self._idle, self._total = _machine()

    def used(self, more_s: float = 0.0) -> Used:
        """The shares since the meter was made; `more_s` adds processor seconds of somebody who counted by itself."""
        seconds, (idle, total) = monotonic() - self._began, _machine()
        ours = (_seconds(self.pids) - self._ours + more_s) / seconds / cores()
        return Used(ours, 1 - (idle - self._idle) / max(total - self._total, 1e-9), seconds)


def children_with(word: str) -> list[int]:
    """Our own direct children with a word in their command line."""
    found = []
    for child in psutil.Process().children():
        with suppress(psutil.Error):
            if any(word in part for part in child.cmdline()):
                found.append(child.pid)
    return found


def _seconds(pids: Iterable[int]) -> float:
    total = 0.0
    for pid in pids:
        with suppress(psutil.Error):
            times = psutil.Process(pid).cpu_times()
            total += times.user + times.system
    return total


def _machine() -> tuple[float, float]:
    times = psutil.cpu_times()
    # guest time is part of user time already
    return times.idle + times.iowait, sum(times) - times.guest - times.guest_nice


def _processor() -> str | None:
    found = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1] if found else platform.processor() or None


def _haproxy() -> str | None:
    done = subprocess.run([haproxy_binary(), "-v"], capture_output=True, text=True, check=False)
    found = re.search(r"version (\S+)", done.stdout)
    return found[1] if found else None


def _package(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
