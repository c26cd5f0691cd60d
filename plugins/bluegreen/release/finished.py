"""A release that is over stays over: no cleared, late or repeated task of it goes on."""

from __future__ import annotations

from bluegreen.core.errors import ReleaseFinished
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
