"""Apprise: mail, Slack, and a hundred services more, by one URL, which is the connection's password."""

from __future__ import annotations

import logging

from bluegreen.channels.delivery import THREAD
from bluegreen.core.notice import Notice, Severity
from bluegreen.core.ports import Credentials

TYPE: dict[Severity, str] = {"critical": "failure", "error": "failure", "warning": "warning", "info": "info"}


class _NotOurs(logging.Filter):
    """Apprise and what it sends with log whole URLs: from our threads nothing of that is written."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not (record.threadName or "").startswith(THREAD)


_SILENT = _NotOurs()


def send(credentials: Credentials, notice: Notice) -> str:
    """Return what was wrong: Apprise itself tells no more than that it could not."""
    try:
        import apprise  # noqa: PLC0415 - an extra
    except ImportError:
        return "apprise is not installed here; pip install 'airflow-blue-green[apprise]'"
    for name in ("apprise", "urllib3.connectionpool"):
        logging.getLogger(name).addFilter(_SILENT)
    # The service itself, past Apprise's thread pool, whose threads keep a process from its end while one of them hangs.
    # No redirect takes the secret to another host.
    asset = apprise.AppriseAsset(app_id="Airflow Blue-Green", http_redirects=False)
    channel = apprise.Apprise.instantiate(credentials.password, asset=asset, suppress_exceptions=True)
    if channel is None:
        return "the connection's password is no URL that Apprise knows"
    body = f"{notice.text}\n{notice.link}" if notice.link else notice.text
    title = f"{notice.service}: {notice.event.replace('_', ' ')}"
    told = channel.notify(body=body, title=title, notify_type=TYPE["info" if notice.ends else notice.severity])
    return "" if told else "Apprise could not send it; try the URL with its own command: apprise -vv"
