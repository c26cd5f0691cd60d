"""Sources whose library blocks: asked in threads of their own, a few, and given up after a time-out."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import datetime
from functools import partial
from typing import Any, ClassVar, Generic, TypeVar

from bluegreen.analysis.counted import UNEXPECTED, Count, Told, counting, credentials_of, refuse
from bluegreen.analysis.prometheus_api import BadAnswer
from bluegreen.catalog.sources import SourceSection
from bluegreen.checks.fresh import excerpt
from bluegreen.core.colors import Color
from bluegreen.core.ports import Credentials, Secrets

S = TypeVar("S", bound=SourceSection)
_THREADS = 2
"""One a color; a thread that hangs keeps its place, so that no more than these ever hang."""


class ThreadCounts(ABC, Generic[S]):
    """
    A source that blocks: a kind says how it is connected to and asked.

    :param secrets: asked when it is opened
    """

    who: ClassVar[str]
    at_once = False

    def __init__(self, section: S, secrets: Secrets) -> None:
        self.interval, self.section, self._secrets = section.interval, section, secrets

    @abstractmethod
    def connect(self, credentials: Credentials | None) -> tuple[Any, tuple[str, ...]]:
        """
        Make a client; asks nobody yet.

        :returns: the client, and what must not be quoted
        :raises SecretMissing: the connection lacks something
        :raises CheckFailed: a library is missing
        """

    @abstractmethod
    def ask(self, client: Any, colors: tuple[Color, ...], since: datetime, until: datetime) -> Told:
        """
        Ask, and wait for the answer.

        :raises BadAnswer: it tells nothing of any color
        """

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Count]:
        """See ``CountSource``."""
        credentials = await credentials_of(self._secrets, self.section.connection)
        client, secrets = await asyncio.to_thread(self.connect, credentials)
        pool = ThreadPoolExecutor(_THREADS, thread_name_prefix=f"count-{self.section.type}")
        masked = partial(excerpt, secrets=secrets)
        try:
            ask = partial(self._in_time, pool, client)
            async with counting(ask, self.section.max_age, masked, at_once=self.at_once) as count:
                yield count
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    async def _in_time(
        self, pool: ThreadPoolExecutor, client: Any, colors: tuple[Color, ...], since: datetime, until: datetime
    ) -> Told:
        asked = asyncio.get_running_loop().run_in_executor(pool, self.ask, client, colors, since, until)
        seconds = self.section.timeout.total_seconds()
        try:
            return await asyncio.wait_for(asked, seconds)
        except BadAnswer:
            raise
        except UNEXPECTED as error:
            return refuse(f"not what {self.who} answers: {type(error).__name__}: {error}")
        except TimeoutError:
            return refuse(f"{self.who} gives no answer: timeout: no whole answer within {seconds:g} s")
