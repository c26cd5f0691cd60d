"""Opsgenie, Alert API v2: an alert for each release, opened by what needs people and closed at its end."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from bluegreen.channels.posting import base, post
from bluegreen.core.notice import Notice, Severity
from bluegreen.core.ports import Credentials

API = "https://api.opsgenie.com"
PRIORITY: dict[Severity, str] = {"critical": "P1", "error": "P2", "warning": "P3", "info": "P5"}
LONGEST_MESSAGE = 130


def send(credentials: Credentials, notice: Notice) -> str:
    """Return what was wrong; the connection's host may be another region's, ``https://api.eu.opsgenie.com``."""
    path, body = request(notice)
    headers = {"Authorization": f"GenieKey {credentials.password}"}
    return post(f"{base(credentials.host, API)}{path}", body, headers)


def request(notice: Notice) -> tuple[str, dict[str, Any]]:
    """Return path with query, and body."""
    if notice.ends:
        path = f"/v2/alerts/{quote(notice.key, safe='')}/close?identifierType=alias"
        return path, {"source": "Airflow Blue-Green", "note": notice.text}
    link = f"\n{notice.link}" if notice.link else ""
    return "/v2/alerts", {
        "message": notice.text[:LONGEST_MESSAGE],
        "alias": notice.key,
        "description": f"{notice.text}{link}",
        "priority": PRIORITY[notice.severity],
        "entity": notice.service,
        "source": "Airflow Blue-Green",
        "tags": ["bluegreen", notice.event],
        "details": {name: str(value) for name, value in notice.as_json().items() if value},
    }
