"""A release that is over stays over: no cleared, late or repeated task of it goes on, and none after another took over."""

from __future__ import annotations

from bluegreen.core.errors import ReleaseFinished, RouterUnreachable, TrafficConflict
from bluegreen.core.reading import Reading
from bluegreen.core.stamp import Phase
from bluegreen.release.ports import Ports


def not_finished(ports: Ports, run: str, reading: Reading, but: Phase | None = None) -> None:
    """
    Let only a release go on that is not settled, restored or stranded.

    :param run: whose step asks
    :param but: a final phase that the step itself writes, so that it may be repeated
    :raises ReleaseFinished: it is over
    """
    stamp = reading.stamp
    if stamp and stamp.run == run and stamp.phase.final and stamp.phase is not but:
        raise ReleaseFinished(
            f"finished: {stamp.release} is {stamp.phase} ({stamp.why})",
            service=ports.name,
            next_step=f"start a new release or rollback__{ports.name}",
        )


def still_ours(ports: Ports, run: str, release: str, reading: Reading) -> None:
    """
    Let only the release go on that holds the service.

    :param run: whose step asks
    :param release: its run and claim
    :raises ReleaseFinished: it is over
    :raises RouterUnreachable: no node says who holds it
    :raises TrafficConflict: another one holds the service, or nobody does
    """
    not_finished(ports, run, reading)
    if not reading.reachable:
        step = "nothing was touched; a repeated task looks again"
        raise RouterUnreachable(reading.says(), service=ports.name, part="router", next_step=step)
    stamp = reading.stamp
    if stamp is None or stamp.release != release:
        holder = f"{stamp.release} does ({stamp.phase}: {stamp.why})" if stamp else "nobody does"
        raise TrafficConflict(
            f"{release} does not hold the service any more, {holder}",
            service=ports.name,
            part="router",
            next_step="nothing was touched; see bluegreen status",
        )
