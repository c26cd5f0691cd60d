"""A point in time until which something may be tried."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta


@dataclass(frozen=True)
class Deadline:
    """
    A bounded wait on the monotonic clock.

    :param span: how long from now
    :param clock: seconds, only ever growing; tests give their own
    :param sleep: waits some seconds; tests give their own
    """

    span: timedelta
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    _end: float = field(init=False, default=0.0)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_end", self.clock() + self.span.total_seconds())

    @property
    def left(self) -> float:
        """Seconds left, never below 0."""
        return max(0.0, self._end - self.clock())

    def tries(self, first_pause: float = 0.05, longest_pause: float = 1.0) -> Iterator[int]:
        """Yield 1, 2, 3 … with doubling pauses until the time is over; at least one try."""
        attempt, pause = 1, first_pause
        while True:
            yield attempt
            left = self.left
            if left <= 0:
                return
            self.sleep(min(pause, left))
            attempt, pause = attempt + 1, min(pause * 2, longest_pause)
