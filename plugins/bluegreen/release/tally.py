"""A tally: what the router has counted by now. It is taken for the report and never fails."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from bluegreen.analysis.sequential import Past
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


def past_of(begun: Mapping[str, Any] | None, now: Mapping[str, Any], color: Color) -> Past:
    """
    Return what a color did since a tally; a node that was away, or began its counts anew, is left out.

    :param begun: what ``tally`` returned; None where nobody took one
    :param now: counters by node and color, as JSON
    """
    requests = errors = 0
    for node, before in ((begun or {}).get("nodes") or {}).items():
        old, new = before.get(color), (now.get(node) or {}).get(color)
        if old and new and new["requests"] >= old["requests"] and new["errors"] >= old["errors"]:
            requests += new["requests"] - old["requests"]
            errors += new["errors"] - old["errors"]
    return Past(requests, errors)
