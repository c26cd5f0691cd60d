"""A real SMTP server that keeps what it gets."""

from __future__ import annotations

import time
from typing import Any, Self

from aiosmtpd.controller import Controller

from demo.processes import free_port


class Mailbox:
    """Takes every mail; ``got`` has sender, receivers and text of each."""

    def __init__(self) -> None:
        self.got: list[tuple[str, list[str], str]] = []
        self._server = Controller(self, hostname="127.0.0.1", port=free_port())

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd calls it so
        """Keep a mail."""
        self.got.append((envelope.mail_from, envelope.rcpt_tos, envelope.content.decode()))
        return "250 OK"

    @property
    def url(self) -> str:
        """The mailbox as an Apprise URL."""
        return f"mailto://127.0.0.1:{self._server.port}?from=bluegreen@shop.test&to=oncall@shop.test&mode=insecure"

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop()

    def wait(self, count: int, within: float = 5.0) -> None:
        """Wait until so many came."""
        until = time.monotonic() + within
        while len(self.got) < count and time.monotonic() < until:
            time.sleep(0.02)
