"""PagerDuty, Events API v2: an alert for each release, triggered by what needs people and resolved at its end."""

from __future__ import annotations

from typing import Any

from bluegreen.channels.posting import base, post
from bluegreen.core.notice import Notice
from bluegreen.core.ports import Credentials

EVENTS = "https://events.pagerduty.com"
LONGEST_SUMMARY = 1024


def send(credentials: Credentials, notice: Notice) -> str:
    """Return what was wrong; the connection's host may be another region's, ``https://events.eu.pagerduty.com``."""
    return post(f"{base(credentials.host, EVENTS)}/v2/enqueue", event(credentials.password, notice))


def event(routing_key: str, notice: Notice) -> dict[str, Any]:
    """
    Return the body of one event.

    :param routing_key: of the PagerDuty service's integration
    """
    told: dict[str, Any] = {
        "routing_key": routing_key,
        "event_action": "resolve" if notice.ends else "trigger",
        "dedup_key": notice.key,
        "payload": {
            "summary": notice.text[:LONGEST_SUMMARY],
            "source": notice.service,
            "severity": notice.severity,
            "timestamp": notice.at,
            "component": notice.service,
            "group": notice.run,
            "class": notice.event,
            "custom_details": notice.as_json(),
        },
        "client": "Airflow Blue-Green",
    }
    if notice.link:
        told["client_url"] = notice.link
        told["links"] = [{"href": notice.link, "text": "the run in Airflow"}]
    return told
