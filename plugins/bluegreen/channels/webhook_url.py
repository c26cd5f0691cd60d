"""Webhook: the notice as it is, to the URL that the connection's password is."""

from __future__ import annotations

from bluegreen.channels.posting import post
from bluegreen.core.notice import Notice
from bluegreen.core.ports import Credentials


def send(credentials: Credentials, notice: Notice) -> str:
    """Return what was wrong."""
    return post(credentials.password, notice.as_json())
