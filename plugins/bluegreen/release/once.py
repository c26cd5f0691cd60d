"""A step that is taken once, whoever comes first to it; and work that nobody waits for longer than he can."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import timedelta
from threading import Event, Lock, Thread
from typing import Generic, TypeVar

from bluegreen.core.errors import MigrationFailed

T = TypeVar("T")


class Once(Generic[T]):
    """
    A step that is tried once; every further call has the outcome of that one, an error as well.

    :param step: does it
    """

    def __init__(self, step: Callable[[], T]) -> None:
        self._step, self._lock, self._closed, self._tried = step, Lock(), False, False
        self._outcome: Future[T] = Future()
        self.begun = Event()
        """Set when it is tried, or will not be tried by who works for it."""

    def offered(self) -> T:
        """
        Try it, for who works beside; refused once nobody waits for that any more.

        :raises MigrationFailed: it is somebody else's by now
        """
        with self._lock:
            if self._closed and not self._tried:
                raise MigrationFailed("came too late: nobody waited any more", part="switch", next_step="see the log")
            mine, self._tried = not self._tried, True
        return self._taken(mine)

    def refuse_offers(self) -> bool:
        """Take no offer from now on; tell whether there was none yet."""
        with self._lock:
            self._closed = True
            return not self._tried

    def taken(self) -> T:
        """Try it, or wait for the outcome of who does."""
        with self._lock:
            mine, self._tried = not self._tried, True
        return self._taken(mine)

    def _taken(self, mine: bool) -> T:
        if mine:
            self.begun.set()
            try:
                self._outcome.set_result(self._step())
            except BaseException as error:  # noqa: BLE001 - whoever waits gets it, one that ends a program too
                self._outcome.set_exception(error)
        return self._outcome.result()


@dataclass
class Work:
    """
    Work that is done beside.

    :param failure: how it ended, where it did not end well
    :param ended: is set at its end
    """

    failure: Exception | None = None
    ended: Event = field(default_factory=Event)

    @property
    def over(self) -> bool:
        """It has ended."""
        return self.ended.is_set()

    def wait(self, bound: timedelta) -> bool:
        """Wait for its end; tell whether it came."""
        return self.ended.wait(bound.total_seconds())


def beside(work: Callable[[], object], ended: Event | None = None) -> Work:
    """
    Begin something in a thread that keeps no program from ending.

    :param ended: is set at its end, too
    """
    made = Work()

    def run() -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001 - who waits is told
            made.failure = error
        finally:
            made.ended.set()
            if ended:
                ended.set()

    Thread(target=run, daemon=True).start()
    return made
