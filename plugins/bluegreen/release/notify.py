"""
Notify: what is told of a release, to the channels that the service file names.

Only who acted tells, once, and never before the deed where that could hold it up. What a channel does about it changes
nothing: some seconds for all of them together, no second try, one line in the log.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextvars import copy_context
from dataclasses import dataclass
from datetime import datetime
from threading import Thread
from urllib.parse import quote

from bluegreen.channels.delivery import THREAD
from bluegreen.core.colors import Color
from bluegreen.core.errors import BlueGreenError, RouterError
from bluegreen.core.notice import Event, Notice
from bluegreen.core.reading import Reading
from bluegreen.core.stamp import Phase, Stamp
from bluegreen.release.ports import Ports

AIRFLOW_URL = "AIRFLOW__API__BASE_URL"
"""Where Airflow's own environment says its address, a notice has a link."""


@dataclass(frozen=True)
class Of:
    """
    Whose event it is, where the stamp that stands does not say it.

    :param run: DAG run id
    :param release: run and claim
    :param version: what is released
    """

    run: str
    release: str
    version: str | None = None


def tell(ports: Ports, event: Event, reading: Reading, was: Phase, by: str, why: str, *, of: Of | None = None) -> None:
    """
    Tell people; whatever comes of it is one line in the log for each channel.

    :param reading: the router now
    :param was: the phase before
    :param of: whose event it is; by default the stamp's
    """
    if reading.stamp is None:
        return
    _deliver(ports, lambda: _notice(ports, event, reading.stamp, _live(reading), was, by, why, of=of))


def tell_conflict(ports: Ports, of: Of, by: str, why: str) -> None:
    """
    Tell that somebody else has the traffic of a release under way.

    What was put back under the release's own name was told of by who did it, and the one that was superseded ends as
    the service file wants it.

    :param by: the step that found it
    """
    try:
        reading = ports.router.read()
    except RouterError as error:
        ports.log(f"nobody was told of the conflict: {error}")
        return
    stamp = reading.stamp
    ours = stamp is not None and stamp.run == of.run
    if not reading.foreign and (ours or ports.service.release.concurrent == "supersede"):
        return
    live = _live(reading)
    _deliver(ports, lambda: _notice(ports, "conflict", stamp, live, stamp.phase if stamp else None, by, why, of=of))


def tell_overdue(ports: Ports, run: str, why: str) -> None:
    """
    Tell that a run has not ended in time, and where it stands, so far as the router says it.

    :param run: DAG run id
    """
    stamp, live = None, None
    try:
        reading = ports.router.read()
        stamp, live = reading.stamp, _live(reading)
    except RouterError as error:
        why = f"{why}; the router cannot be asked: {error}"
    ours = stamp if stamp and stamp.run == run else None
    of = Of(run, ours.release if ours else run)
    _deliver(ports, lambda: _notice(ports, "overdue", stamp, live, ours.phase if ours else None, "Airflow", why, of=of))


class TellsUnhealthy:
    """
    Tells, once, that a verdict is bad; called right before the write that puts the traffic back, and never waits.

    :param ports: of the service
    :param of: whose release
    :param color: the color that is bad
    :param by: the watch
    :param why: the verdict
    """

    def __init__(self, ports: Ports, of: Of, color: Color, by: str, why: str) -> None:
        self._ports, self._of, self._color, self._by, self._why = ports, of, color, by, why
        self._told = False

    def __call__(self, stamp: Stamp | None = None) -> bool:
        """Tell by the stamp that is about to be left; always True, so that the restore goes on."""
        if not self._told:
            self._told = True
            live = self._color if stamp and stamp.phase is Phase.SWITCHED else None
            was, of = stamp.phase if stamp else None, self._of
            if stamp:
                of = Of(of.run, of.release, stamp.versions.get(self._color))
            _deliver(
                self._ports,
                lambda: _notice(self._ports, "unhealthy", stamp, live, was, self._by, self._why, of=of),
                wait=False,
            )
        return True


def _live(reading: Reading) -> Color | None:
    """The color that has all traffic; none while it is split, or where nodes differ."""
    return reading.live or (reading.split.whole if reading.split else None)


def _deliver(ports: Ports, make: Callable[[], Notice], *, wait: bool = True) -> None:
    try:
        waiting = ports.tell(make())
        if wait:
            waiting()
        else:
            Thread(target=copy_context().run, args=(waiting,), name=THREAD, daemon=True).start()
    except Exception as error:  # noqa: BLE001 - telling of it must not fail what it tells of
        # An error's own text may hold a URL: only ours are known not to.
        fact = str(error) if isinstance(error, BlueGreenError) else f"unexpected {type(error).__name__}"
        ports.log(f"nobody was told of this: {fact}")


def _notice(
    ports: Ports,
    event: Event,
    stamp: Stamp | None,
    live: Color | None,
    was: Phase | None,
    by: str,
    why: str,
    *,
    of: Of | None,
) -> Notice:
    versions = stamp.versions if stamp else {}
    whose = of or Of(stamp.run if stamp else "", stamp.release if stamp else "")
    at: datetime = ports.now()
    # The write's own time where it is the stamp's event: two that raced say the same.
    said = stamp.as_fields()["at"] if stamp and of is None else at.isoformat(timespec="milliseconds")
    return Notice(
        service=ports.name,
        event=event,
        was=str(was or "unknown"),
        why=" ".join(why.split())[:500],
        by=by,
        run=whose.run,
        release=whose.release,
        live=live,
        old_version=versions.get(live) if live else None,
        version=whose.version or (versions.get(live.other) if live else None),
        at=said,
        link=_link(f"{'rollback' if event == 'rolled_back' else 'release'}__{ports.name}", whose.run),
    )


def _link(dag: str, run: str) -> str:
    base = os.environ.get(AIRFLOW_URL, "").rstrip("/")
    return f"{base}/dags/{dag}/runs/{quote(run, safe='')}" if base else ""
