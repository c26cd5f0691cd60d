"""Move: a small release of traffic alone, for DAGs and people that deploy by other means."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from bluegreen.core.colors import Color, Split
from bluegreen.core.errors import (
    BlueGreenError,
    NotServing,
    ReleaseRefused,
    TrafficConflict,
)
from bluegreen.core.reading import Reading
from bluegreen.core.stamp import Phase, Stamp
from bluegreen.release.finished import not_finished
from bluegreen.release.ports import Ports
from bluegreen.release.restore import restore
from bluegreen.release.roles import move_roles
from bluegreen.release.shift import Shifted, proved


def move(  # each of them is the caller's to choose
    ports: Ports, to: str, *, run: str, by: str, share: int = 100, lease: timedelta | None = None
) -> Shifted:
    """
    Give a color a share of the traffic and prove it; all of it settles, a part stays under a lease.

    :param to: ``idle``, ``live``, ``blue`` or ``green``
    :param run: who owns the traffic meanwhile; a run may move on what it moved before
    :param share: per cent, 1 to 100
    :param lease: how long a part may stay; the service's lease by default
    :raises ReleaseRefused: the service is not in a state to be moved
    :raises TrafficConflict: another release is under way
    :raises NotServing: the color has no healthy server
    :raises NotProven: the entry says otherwise; the traffic was put back
    :raises DeployError: a role did not follow; the traffic was put back
    """
    reading = ports.router.read()
    stamp = ours(ports, reading, run)
    if stamp.run == run and stamp.step == by and stamp.phase is Phase.SETTLED and reading.split:
        return proved(ports, reading.split, reading, stamp)  # Airflow repeats tasks: this one is done
    color = _color(ports, to, stamp, reading)
    if not ports.health(reading, color).serves:
        raise NotServing("has no healthy server", service=ports.name, part=color, next_step="nothing was moved")
    back_to = stamp.back_to if stamp.phase.transitional else reading.live
    until = ports.now() + (lease or ports.service.release.lease)
    phase = Phase.SWITCHED if share == 100 else Phase.CANARY
    why = f"{by}: {share} % on {color}"
    # What the run moves on is one release: what a router keeps beside the stamp goes on to count.
    release = stamp.release if stamp.phase.transitional else f"{run}@{stamp.epoch + 1}"
    mark = Stamp(stamp.epoch + 1, release, by, phase, back_to, stamp.versions, until, at=ports.now(), why=why)
    try:
        split = Split.giving(color, share)
        done = proved(ports, split, ports.send(split, stamp.identity, mark), mark)
        if share < 100:
            return done
        move_roles(ports, color, mark)
        return _write(ports, Split.whole_on(color), mark, _settled(mark))
    except BlueGreenError:
        restore(ports, "the move was not proven", by, run)
        raise


def _write(ports: Ports, to: Split, before: Stamp, mark: Stamp) -> Shifted:
    return proved(ports, to, ports.router.shift(to, before.identity, mark), mark)


def _settled(mark: Stamp) -> Stamp:
    return replace(mark, epoch=mark.epoch + 1, phase=Phase.SETTLED, lease=None)


def ours(ports: Ports, reading: Reading, run: str) -> Stamp:
    """
    Return the stamp of a service that a run may work on: at rest, or the run's own.

    :raises ReleaseRefused: it is not in order
    :raises ReleaseFinished: the run was put back
    :raises TrafficConflict: another release is under way
    """
    stamp = reading.stamp
    if stamp is None or reading.foreign or stamp.phase is Phase.STRANDED:
        raise ReleaseRefused(
            f"not in order: {reading.says()}",
            service=ports.name,
            part="router",
            next_step=f"see bluegreen status {ports.name}, then bluegreen adopt {ports.name}",
        )
    not_finished(ports, run, reading, but=Phase.SETTLED)
    if (stamp.phase.transitional or stamp.phase is Phase.CLAIMED) and stamp.run != run:
        fact, step = f"release {stamp.release} is under way", f"wait for it, or stop it with rollback__{ports.name}"
        raise TrafficConflict(fact, service=ports.name, part="router", next_step=step)
    return stamp


def _color(ports: Ports, to: str, stamp: Stamp, reading: Reading) -> Color:
    live = stamp.back_to if stamp.phase.transitional else reading.live
    if to in ("live", "idle") and live is not None:
        return live if to == "live" else live.other
    try:
        return Color(to)
    except ValueError:
        raise ReleaseRefused(
            f"unknown color {to!r}", service=ports.name, part="to", next_step="give idle, live, blue or green"
        ) from None
