"""Delivery: every channel is told in a thread of its own, in order, and nobody waits for long."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextvars import copy_context
from dataclasses import dataclass, field
from threading import Thread

from bluegreen.catalog.alerts import Channel
from bluegreen.channels import posting
from bluegreen.channels.registry import sender
from bluegreen.core.errors import BlueGreenError
from bluegreen.core.notice import Notice
from bluegreen.core.ports import Secrets

THREAD = "bluegreen-tells"
"""How the names of threads begin that tell people."""


@dataclass(frozen=True)
class Channels:
    """
    All channels of one service.

    :param channels: as the service file says
    :param secrets: where URLs and keys come from; asked only when there is something to tell
    :param log: one line for people
    """

    channels: Sequence[Channel]
    secrets: Secrets
    log: Callable[[str], None]
    _before: dict[str, Thread] = field(default_factory=dict)

    def __call__(self, notice: Notice) -> Callable[[], None]:
        """
        Begin to tell everybody who hears of it.

        :returns: what waits until all were told, some seconds at most, and logs what came of it
        """
        until = time.monotonic() + posting.PATIENCE
        telling = [self._begin(channel, notice, until) for channel in self.channels if channel.hears(notice.event)]

        def wait() -> None:
            for one in telling:
                self.log(one.told_by(until))

        return wait

    def _begin(self, channel: Channel, notice: Notice, until: float) -> _Telling:
        one = _Telling(channel, notice)
        work = (one.run, self.secrets, self._before.get(channel.connection), until)
        # Airflow finds the task's log and its connections by context variables: the thread needs them, too.
        one.thread = Thread(target=copy_context().run, args=work, name=f"{THREAD}-{channel.connection}", daemon=True)
        self._before[channel.connection] = one.thread
        one.thread.start()
        return one


class _Telling:
    """One notice on its way to one channel."""

    def __init__(self, channel: Channel, notice: Notice) -> None:
        self.channel, self.notice = channel, notice
        self.thread = Thread()
        self.failed: str | None = None

    def run(self, secrets: Secrets, before: Thread | None, until: float) -> None:
        """Send it after the one before, as an alert must not be closed before it is opened; never too late."""
        if before:
            before.join(max(0.0, until - time.monotonic()))
        if time.monotonic() < until:
            self.failed = self._send(secrets)

    def _send(self, secrets: Secrets) -> str:
        try:
            return sender(self.channel.kind)(secrets(self.channel.connection), self.notice)
        except Exception as error:  # noqa: BLE001 - telling must fail nothing, and only our own texts hold no secret
            return str(error) if isinstance(error, BlueGreenError) else f"unexpected {type(error).__name__}"

    def told_by(self, until: float) -> str:
        """Return the line for people, at that time at the latest."""
        self.thread.join(max(0.0, until - time.monotonic()))
        failed = f"no answer within {posting.PATIENCE:g} s" if self.failed is None else self.failed
        said = f"was not told: {failed}" if failed else "was told"
        return f"{self.channel.kind} {self.channel.connection} {said} ({self.notice.event})"
