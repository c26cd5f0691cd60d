"""One POST of JSON: no redirect, no second try, and no word of the URL in what went wrong."""

from __future__ import annotations

import json
import ssl
from collections.abc import Mapping
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

PATIENCE = 3.0
"""Seconds that all channels together may take, name lookups included."""


class _NoRedirects(HTTPRedirectHandler):
    """A redirect would take the notice, and maybe the secret, to another host."""

    def redirect_request(self, *_: Any) -> None:
        return None


def post(url: str, body: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> str:
    """
    POST once.

    :param headers: beside the content type
    :returns: what was wrong, without the URL; empty when it was taken
    """
    try:
        if urlsplit(url).scheme not in ("http", "https"):
            return "the connection's password is no http:// or https:// URL"
        named = {"Content-Type": "application/json", "User-Agent": "airflow-blue-green", **(headers or {})}
        request = Request(url, json.dumps(body).encode(), named)  # noqa: S310 - the scheme was looked at
        with build_opener(_NoRedirects).open(request, timeout=PATIENCE):
            return ""
    except HTTPError as error:
        return f"it answered {error.code}" + ("; redirects are not followed" if error.code // 100 == 3 else "")
    except URLError as error:
        return _reason(error.reason)
    except Exception as error:  # noqa: BLE001 - a thread's unexpected error would be printed, with the URL in it
        return _reason(error)


def base(host: str, default: str) -> str:
    """Return where a service's API is: the connection's host where it is a URL, as for another region."""
    return host.rstrip("/") if host.startswith(("http://", "https://")) else default


def _reason(error: object) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return "its certificate is not trusted"
    if isinstance(error, TimeoutError):
        return f"no answer within {PATIENCE:g} s"
    return (error.strerror if isinstance(error, OSError) else None) or type(error).__name__
