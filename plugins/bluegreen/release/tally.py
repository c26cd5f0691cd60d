"""A tally: what the router has counted by now. It is taken for the report and never fails."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import Any

from bluegreen.core.ports import Counts
from bluegreen.release.ports import Ports

PATIENCE = 5.0
"""Seconds that the counters may take."""


def tally(ports: Ports) -> dict[str, Any]:
    """Return the cumulative counts by node and color, as JSON; no node where the router does not count, or not now."""
    nodes: dict[str, Any] = {}
    if isinstance(ports.router, Counts):
        try:
            found = asyncio.run(asyncio.wait_for(ports.router.counters(), PATIENCE))
            nodes = {name: {str(color): asdict(c) for color, c in colors.items()} for name, colors in found.items()}
        except Exception as error:  # noqa: BLE001 - the report is told less; the release goes on
            ports.log(f"no counts for the report: {type(error).__name__}: {error}")
    return {"at": ports.now().isoformat(), "nodes": nodes}
