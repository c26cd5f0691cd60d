"""Asking somebody again and again at his own pace; whatever goes wrong is missing data."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import timedelta
from typing import Generic, TypeVar

from bluegreen.core.errors import BlueGreenError

T = TypeVar("T")
A = TypeVar("A")

PATIENCE = 3
"""Questions in a row without an answer before it counts: one that is lost on its way is no missing data."""


@dataclass
class Latest(Generic[T]):
    """
    What was last told.

    :param value: the latest answer
    :param missing: why those after it were none
    :param in_row: how many those are
    :param asked: somebody has answered, or has not in time
    """

    value: T | None = None
    missing: str = "nothing was told yet"
    in_row: int = 0
    asked: bool = False

    def told(self, value: T) -> None:
        """Take an answer."""
        self.value, self.asked, self.in_row = value, True, 0

    def missed(self, error: Exception) -> None:
        """Take what was none."""
        self.asked, self.in_row = True, self.in_row + 1
        self.missing = str(error) if isinstance(error, BlueGreenError) else f"{type(error).__name__}: {error}"


async def keep_asking(
    opened: Callable[[], AbstractAsyncContextManager[A]],
    questions: Sequence[tuple[Latest[T], Callable[[A], Awaitable[T]]]],
    interval: timedelta,
) -> None:
    """
    Ask every question again an interval after its answer, each in an asyncio task of its own, until cancelled.

    :param opened: what is asked within
    :param questions: where each one's answers go, and what asks it
    """
    while True:
        try:
            async with opened() as asked, asyncio.TaskGroup() as each:
                for latest, ask in questions:
                    each.create_task(_ask_on(asked, latest, ask, interval.total_seconds()))
        except Exception as error:  # noqa: BLE001 - it could not even begin: a secret, a certificate
            for latest, _ in questions:
                latest.missed(error)
            await asyncio.sleep(interval.total_seconds())


async def _ask_on(asked: A, latest: Latest[T], ask: Callable[[A], Awaitable[T]], interval: float) -> None:
    while True:
        try:
            latest.told(await ask(asked))
        except Exception as error:  # noqa: BLE001 - an answer that nobody thought of must not end the watch
            latest.missed(error)
        # From the answer on: however late a question arrives, nobody is asked twice within an interval.
        await asyncio.sleep(interval)
