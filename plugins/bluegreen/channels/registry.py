"""Which function sends to which kind of channel. A new kind is a line here."""

from __future__ import annotations

from collections.abc import Callable
from pkgutil import resolve_name
from typing import cast

from bluegreen.catalog.alerts import Kind
from bluegreen.core.notice import Notice
from bluegreen.core.ports import Credentials

Send = Callable[[Credentials, Notice], str]
"""Sends one notice; returns what was wrong, without a secret, and an empty text when it was taken."""

KINDS: dict[Kind, str] = {
    "webhook": "bluegreen.channels.webhook_url:send",
    "apprise": "bluegreen.channels.apprise_url:send",
    "pagerduty": "bluegreen.channels.pagerduty_events:send",
    "opsgenie": "bluegreen.channels.opsgenie_alerts:send",
}
"""Kind in the service file -> module and function, imported when there is something to tell."""


def sender(kind: Kind) -> Send:
    """Return what sends to a kind of channel."""
    return cast("Send", resolve_name(KINDS[kind]))
