"""A tally: what the router has counted by now. It is taken for the report and never fails."""

from __future__ import annotations

import asyncio
from typing import Any

from bluegreen.core.evidence import counts_as_json
from bluegreen.core.ports import Counts
from bluegreen.release.ports import Ports

PATIENCE = 5.0
"""Seconds that the counters may take."""


def tally(ports: Ports) -> dict[str, Any]:
    """Return the cumulative counts by node and color, as JSON; no node where the router does not count, or not now."""
    nodes: dict[str, Any] = {}
    if isinstance(ports.router, Counts):
        try:
            nodes = counts_as_json(asyncio.run(asyncio.wait_for(ports.router.counters(), PATIENCE)))
        except Exception as error:  # noqa: BLE001 - the report is told less; the release goes on
            ports.log(f"no counts for the report: {type(error).__name__}: {error}")
    return {"at": ports.now().isoformat(), "nodes": nodes}
