"""
Metrics of our own, as Airflow emits its own: through its StatsD or OpenTelemetry client, from the task that has the result.

Nothing is sent where ``[metrics]`` of Airflow's configuration names no receiver, and nothing that goes wrong here changes
a release. Every tag has few values: services of the catalog, phases, outcomes, colors. ``docs/monitoring.md`` tells each.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from functools import wraps
from typing import Any, ParamSpec

from airflow.sdk.observability import stats

from bluegreen.core.colors import Color
from bluegreen.core.stamp import Phase, now_utc
from bluegreen.release.guard import Guarded

PREFIX = "bluegreen"
P = ParamSpec("P")
_LOG = logging.getLogger("bluegreen")
_WHO = ("watch", "rollback", "safe", "guardian")
"""Who restores by itself; everybody else is a person, whose name is no label."""


def _harmless(emit: Callable[P, None]) -> Callable[P, None]:
    @wraps(emit)
    def emitted(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            emit(*args, **kwargs)
        except Exception as error:  # noqa: BLE001 - a metric is welcome, never needed
            # Its text may hold what was measured; the type is enough to look for it.
            _LOG.warning("no metric from %s: %s", getattr(emit, "__name__", "metrics"), type(error).__name__)

    return emitted


@_harmless
def shifted(service: str, left: Mapping[str, Any]) -> None:
    """
    Count a forward shift.

    :param left: a ``Shifted`` as JSON
    """
    stamp, proof = left["reading"]["stamp"], left.get("proof") or {}
    _count("shifts", service, phase=stamp["phase"], proven=proof.get("says", "unproven").replace(" ", "_"))


@_harmless
def restored(service: str, left: Mapping[str, Any], by: str) -> None:
    """
    Count a way back, for the one that moved the traffic; whoever only confirms it counts nothing.

    :param left: a ``Restored`` as JSON
    :param by: task id, or ``guardian``
    """
    if left["outcome"] not in ("restored", "stranded"):
        return
    _count("restores", service, by=_who(by), outcome=left["outcome"])


@_harmless
def watched(service: str, end: Mapping[str, Any], by: str) -> None:
    """
    Count a watch's verdict, the renewals that it missed, and how long its restore took.

    :param end: a ``WatchEnd`` as JSON, or the event of a watch that broke off
    :param by: task id of the watch
    """
    _count("watches", service, verdict=end["says"])
    if missed := end.get("renewals_missed"):
        _count("lease_renewals_missed", service, missed)
    if back := end.get("restored"):
        restored(service, back, by)
    if end.get("verdict_at") and end.get("restored_at"):
        took = datetime.fromisoformat(end["restored_at"]) - datetime.fromisoformat(end["verdict_at"])
        _time("restore_seconds", service, took.total_seconds())


@_harmless
def released(service: str, report: Mapping[str, Any]) -> None:
    """
    Count a run that is over, how long it took, and the requests that failed on each color meanwhile.

    :param report: the run's report as JSON
    """
    outcome = str(report["outcome"]).replace(" ", "_")
    _count("runs", service, kind=report["kind"], outcome=outcome)
    if report["began"] and report["written"]:
        took = datetime.fromisoformat(report["written"]) - datetime.fromisoformat(report["began"])
        _time("run_seconds", service, took.total_seconds(), kind=report["kind"], outcome=outcome)
    for color, counted in ((report["requests"] or {}).get("colors") or {}).items():
        _count("release_requests", service, counted["requests"], color=color)
        _count("release_failed_requests", service, counted["errors"], color=color)


@_harmless
def guarded(service: str, found: Guarded | None) -> None:
    """
    Tell what the guard saw: phase, share of each color, and for how long a release has not ended.

    :param found: what it did and saw; None where it failed
    """
    action = found.action if found else "failed"
    _count("guard_looks", service, action=action)
    if found is None:
        return
    reading = found.reading
    stamp, split = reading.stamp, reading.split
    if action == "restored" and stamp:
        _count("restores", service, by="guardian", outcome=stamp.phase)
    for phase in (*Phase, "none"):
        now = stamp.phase if stamp else "none"
        _gauge("phase", service, float(phase == now), phase=phase)
    at_risk = stamp is not None and not stamp.phase.final and stamp.at is not None
    age = (now_utc() - stamp.at).total_seconds() if at_risk and stamp and stamp.at else 0.0
    _gauge("unfinished_seconds", service, max(age, 0.0))
    _gauge("nodes_lagging", service, float(len(reading.lagging)))
    for color in Color if split else ():
        _gauge("traffic_share", service, float(split.share(color)) if split else 0.0, color=color)


def _who(by: str) -> str:
    return next((who for who in _WHO if by.endswith(who)), "person")


def _tags(service: str, more: Iterable[tuple[str, Any]]) -> dict[str, str]:
    return {"service": service, **{name: str(value) for name, value in more}}


def _count(name: str, service: str, count: int = 1, **tags: Any) -> None:
    if count > 0:
        stats.incr(f"{PREFIX}.{name}", count, tags=_tags(service, tags.items()))


def _gauge(name: str, service: str, value: float, **tags: Any) -> None:
    stats.gauge(f"{PREFIX}.{name}", value, tags=_tags(service, tags.items()))


def _time(name: str, service: str, seconds: float, **tags: Any) -> None:
    """Airflow's timers take milliseconds; what makes seconds of them again is the exporter's mapping."""
    stats.timing(f"{PREFIX}.{name}", seconds * 1000, tags=_tags(service, tags.items()))
