"""Looks at many services again and again, without one that hangs keeping the others waiting."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait

from bluegreen.catalog.models import Service
from bluegreen.cli.exits import warn

MOST_AT_ONCE = 256


class Rounds:
    """
    One look at each service a round.

    :param look: looks at one service, returns an exit code and does not raise
    """

    def __init__(self, look: Callable[[Service], int]) -> None:
        self._look = look
        self._pool = ThreadPoolExecutor(MOST_AT_ONCE)
        self._running: dict[str, Future[int]] = {}

    def run(self, services: Sequence[Service], seconds: float | None) -> Iterator[int]:
        """
        Look at each service that no earlier look still holds, and yield the codes of what is done.

        :param seconds: wait at most so long; None until all are done
        """
        for service in services:
            if service.service in self._running:
                warn(f"{service.service}: the look before this one has not ended yet")
            else:
                self._running[service.service] = self._pool.submit(self._look, service)
        wait(self._running.values(), timeout=seconds)
        for name in [name for name, look in self._running.items() if look.done()]:
            yield self._running.pop(name).result()
