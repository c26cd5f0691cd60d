"""A tally: what the router has counted by now. It is taken for the report and never fails."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from bluegreen.analysis.series import Counted
from bluegreen.core.colors import Color
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


def grown(begun: Mapping[str, Any], ended: Mapping[str, Any]) -> tuple[dict[Color, Counted], set[str]]:
    """
    Return what each color did between two tallies, and the nodes of which that is not wholly known.

    A color of a node that was away once, or that began its counts anew, is left out.

    :param begun: counters by node and color, as JSON
    :param ended: the same, later
    """
    colors, unsure = dict.fromkeys(Color, Counted()), set(begun) ^ set(ended)
    for node in set(begun) - unsure:
        for color, before in begun[node].items():
            after, so_far = ended[node].get(color, {}), colors[Color(color)]
            requests, errors = (after.get(key, -1) - before[key] for key in ("requests", "errors"))
            if min(requests, errors) < 0:
                unsure.add(node)
            else:
                colors[Color(color)] = Counted(so_far.requests + requests, so_far.errors + errors)
    return colors, unsure
