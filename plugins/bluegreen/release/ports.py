"""What a use case works with: one service and the world that it stands in."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from bluegreen.analysis.counted import CountSource
from bluegreen.analysis.polled import Source
from bluegreen.catalog.models import Service
from bluegreen.core.colors import Color, Split
from bluegreen.core.deadlines import Deadline
from bluegreen.core.notice import Notice
from bluegreen.core.ports import Deployer, Prover, Router, TellsCalls
from bluegreen.core.reading import Health, Reading
from bluegreen.core.stamp import Expected, Stamp, now_utc
from bluegreen.release.replicated import Replicated

Log = Callable[[str], None]


def say(line: str) -> None:
    """Log one line for people."""
    logging.getLogger("bluegreen").info("%s", line)


def tell_nobody(notice: Notice) -> Callable[[], None]:  # noqa: ARG001 - nobody is there to be told
    """Where the service file names no channel."""
    return lambda: None


@dataclass(frozen=True)
class Ports:
    """
    One service's ports.

    :param service: the resolved service
    :param router: its router
    :param deployer: its deployer
    :param prove: requests through its entry
    :param log: one line for people
    :param now: aware UTC
    :param sleep: waits some seconds
    :param clock: seconds, only ever growing
    :param source: where rules that ask somebody get their numbers; None where the service file names none
    :param counting: who counts beside the router, by name
    :param replicated: its two databases, one a color; None where it has one or none
    :param tell: begins to tell people; returns what waits until they were told, for some seconds at most
    """

    service: Service
    router: Router
    deployer: Deployer
    prove: Prover
    log: Log = say
    now: Callable[[], datetime] = now_utc
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic
    source: Source | None = None
    counting: Mapping[str, CountSource] = field(default_factory=dict)
    replicated: Replicated | None = None
    tell: Callable[[Notice], Callable[[], None]] = tell_nobody

    @property
    def name(self) -> str:
        """The service's name."""
        return self.service.service

    def deadline(self, span: timedelta) -> Deadline:
        """Return a deadline from now."""
        return Deadline(span, self.clock, self.sleep)

    def send(self, to: Split, expected: Expected | None, stamp: Stamp, *, way_back: bool = False) -> Reading:
        """
        Write a split; where each color has a database, what is written follows all of the traffic.

        :param expected: the stamp that is replaced
        :param way_back: it must not fail for what a database says
        """

        def switch() -> Reading:
            return self.router.shift(to, expected, stamp)

        if self.replicated is None or to.whole is None:
            return switch()
        if not way_back:
            return self.replicated.move(to.whole, switch)
        return self.replicated.move_back(to.whole, switch, lambda: self._took(stamp))

    def _took(self, stamp: Stamp) -> bool:
        """Tell whether a write that failed is the truth all the same: of some nodes only the rest was reached."""
        found = self.router.read().stamp
        return found is not None and stamp.same_write(found)

    @property
    def calls(self) -> Counter[str]:
        """How often APIs were asked, by verb; none for what has no such API."""
        asking = [part for part in (self.router, self.deployer) if isinstance(part, TellsCalls)]
        return sum((Counter(part.calls) for part in asking), Counter())

    def health(self, reading: Reading, color: Color) -> Health:
        """Servers of a color as the router sees them; the targets are asked where it does not tell."""
        return reading.health(color) or self.deployer.status(color).health

    def clients_follow(self) -> datetime | None:
        """Return until when clients may still use the color that a shift takes traffic from; None where all follow at once."""
        within = self.router.limits.follow_within
        return self.now() + within if within else None
