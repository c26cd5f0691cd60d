"""
Notify: one POST when a way back was taken, to the webhook that the service file names.

Only who moved the traffic tells, once, after it is whole. What the webhook does about it changes nothing: a time-out
of some seconds, no second try, one line in the log. Its URL is a secret and stands in no line.
"""

from __future__ import annotations

import json
import os
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from threading import Thread
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from bluegreen.core.colors import Color
from bluegreen.core.errors import BlueGreenError
from bluegreen.core.notice import Event, Notice
from bluegreen.core.ports import Secrets
from bluegreen.core.reading import Reading
from bluegreen.core.stamp import Phase, Stamp
from bluegreen.release.ports import Ports

PATIENCE = 3.0
"""Seconds that a webhook may take, name lookup included."""
AIRFLOW_URL = "AIRFLOW__API__BASE_URL"
"""Where Airflow's own environment says its address, a notice has a link."""


def tell(ports: Ports, event: Event, reading: Reading, was: Phase, by: str, why: str) -> None:
    """
    Tell people of a way back; whatever comes of it is one line in the log.

    :param reading: the router afterwards
    :param was: the phase that was left
    """
    stamp = reading.stamp
    if stamp is None:
        return
    try:
        ports.tell(_notice(ports, event, reading, stamp, was, by, why))
    except Exception as error:  # noqa: BLE001 - the traffic is back; telling of it must not fail what brought it back
        # An error's own text may hold the URL: only ours are known not to.
        fact = str(error) if isinstance(error, BlueGreenError) else f"unexpected {type(error).__name__}"
        ports.log(f"nobody was told of this: {fact}")


def _notice(ports: Ports, event: Event, reading: Reading, stamp: Stamp, was: Phase, by: str, why: str) -> Notice:
    live = reading.live or (reading.split.whole if reading.split else None)
    base = os.environ.get(AIRFLOW_URL, "").rstrip("/")

    def version(color: Color | None) -> str | None:
        return stamp.versions.get(color) if color else None

    return Notice(
        service=ports.name,
        event=event,
        was=was,
        why=" ".join(why.split())[:500],
        by=by,
        run=stamp.run,
        live=live,
        old_version=version(live),
        version=version(live.other if live else None),
        at=stamp.as_fields()["at"],
        link=f"{base}/dags/release__{ports.name}" if base else "",
    )


@dataclass(frozen=True)
class Webhook:
    """
    POSTs notices as JSON.

    :param connection: id of the connection whose password is the whole URL
    :param secrets: where the URL comes from; asked only when there is something to tell
    :param log: one line for people
    """

    connection: str
    secrets: Secrets
    log: Callable[[str], None]

    def __call__(self, notice: Notice) -> None:
        """
        POST once, and wait some seconds at most.

        :raises SecretMissing: there is no such connection
        """
        url = self.secrets(self.connection).password
        failed = _within(PATIENCE, lambda: _post(url, notice.as_json()))
        said = f"was not told: {failed}" if failed else "was told"
        self.log(f"webhook {self.connection} {said} ({notice.event})")


def _within(seconds: float, work: Callable[[], str]) -> str:
    """Return what the work says; it is left alone when it takes longer, as a name lookup can."""
    said = [f"no answer within {seconds:g} s"]
    thread = Thread(target=lambda: said.append(work()), daemon=True)
    thread.start()
    thread.join(seconds)
    return said[-1]


class _NoRedirects(HTTPRedirectHandler):
    """A redirect would take the notice, and maybe the secret, to another host."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _post(url: str, body: dict[str, Any]) -> str:
    """Return what was wrong, without the URL; empty when it was taken."""
    try:
        if urlsplit(url).scheme not in ("http", "https"):
            return "the connection's password is no http:// or https:// URL"
        headers = {"Content-Type": "application/json", "User-Agent": "airflow-blue-green"}
        request = Request(url, json.dumps(body).encode(), headers)  # noqa: S310 - the scheme was looked at
        with build_opener(_NoRedirects).open(request, timeout=PATIENCE):
            return ""
    except HTTPError as error:
        return f"it answered {error.code}" + ("; redirects are not followed" if error.code // 100 == 3 else "")
    except URLError as error:
        return _reason(error.reason)
    except Exception as error:  # noqa: BLE001 - a thread's unexpected error would be printed, with the URL in it
        return _reason(error)


def _reason(error: object) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return "its certificate is not trusted"
    if isinstance(error, TimeoutError):
        return f"no answer within {PATIENCE:g} s"
    return (error.strerror if isinstance(error, OSError) else None) or type(error).__name__
