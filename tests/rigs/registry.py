"""Which rigs test which kind of router. A rig that cannot run here says why instead of being left out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.rigs.haproxy import DEBIAN, HAProxyRig
from tests.rigs.memory import MemoryRig
from tests.rigs.sshd import missing_sshd

RIGS: dict[str, dict[str, Callable[[], Any]]] = {
    "memory": {"memory": MemoryRig},
    "haproxy": {
        "haproxy-wheel-unix": lambda: HAProxyRig("haproxy-wheel-unix"),
        "haproxy-wheel-tcp": lambda: HAProxyRig("haproxy-wheel-tcp", tcp=True),
        "haproxy-debian-unix": lambda: HAProxyRig("haproxy-debian-unix", DEBIAN),
        "haproxy-debian-tcp": lambda: HAProxyRig("haproxy-debian-tcp", DEBIAN, tcp=True),
        "haproxy-wheel-ssh": lambda: HAProxyRig("haproxy-wheel-ssh", ssh=True),
        "haproxy-debian-ssh": lambda: HAProxyRig("haproxy-debian-ssh", DEBIAN, ssh=True),
    },
}


def missing(variant: str) -> str:
    """Say why a rig cannot run on this machine; empty when it can."""
    if "debian" in variant and not Path(DEBIAN).exists():
        return f"there is no {DEBIAN}: apt-get install haproxy"
    return missing_sshd() if variant.endswith("-ssh") else ""
