"""
Markers: a line in somebody's dashboards where a release began, switched, was put back or ended.

All of a service are sent at once, in a thread beside the release, which waits some seconds at most; once, and without
redirects. Whatever comes of it is one line in the log, in our words: a foreign one may hold the key.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from threading import Thread
from typing import Any, Literal

from bluegreen.catalog.markers import DatadogMarker, GrafanaMarker, Marker, NewRelicMarker
from bluegreen.checks.fresh import Address, Answer, NoAnswer, asking
from bluegreen.core.errors import BlueGreenError
from bluegreen.core.notice import Event, Notice
from bluegreen.core.ports import Secrets
from bluegreen.core.stamp import now_utc

PATIENCE = timedelta(seconds=3)
"""For all markers of one event together, name lookup included."""
WAYS_BACK: frozenset[Event] = frozenset({"restored", "rolled_back", "guarded", "stranded"})
Tell = Callable[[Notice], Callable[[], None]]
"""Begins to tell, and returns what waits until it is told."""
Turn = Literal["start", "switch", "restore", "finish"]
_MUTATION = (
    "mutation($deployment: ChangeTrackingDeploymentInput!) "
    "{ changeTrackingCreateDeployment(deployment: $deployment) { deploymentId } }"
)


@dataclass(frozen=True)
class Mark:
    """
    One turn of a release.

    :param service: name in the catalog
    :param run: DAG run id
    :param version: what is released, or was taken off
    :param text: one line for people
    """

    turn: Turn
    service: str
    run: str
    version: str
    text: str

    @property
    def tags(self) -> list[str]:
        """By which dashboards find it."""
        return ["bluegreen", f"service:{self.service}", f"event:{self.turn}"]


def marked(markers: Sequence[Marker], secrets: Secrets, mark: Mark, log: Callable[[str], None]) -> Callable[[], None]:
    """
    Begin to send a mark everywhere.

    :returns: waits until it is sent, or the patience is over; never raises
    """
    said: list[str] = []
    # Asked here: the channel by which a task gets its connections is not made for several threads.
    keys = [_key(marker, secrets) for marker in markers]

    def work() -> None:
        try:
            said.extend(asyncio.run(_all(markers, keys, mark)))
        except Exception as error:  # noqa: BLE001 - a thread's unexpected error would be printed, with what is in it
            said.append(f"markers ({mark.turn}): unexpected {type(error).__name__}")

    thread = Thread(target=work, daemon=True)
    if markers:
        thread.start()

    def wait() -> None:
        if not markers:
            return
        thread.join(PATIENCE.total_seconds())
        for line in said or [f"markers ({mark.turn}): no answer within {PATIENCE.total_seconds():g} s"]:
            log(line)

    return wait


def telling(tell: Tell, markers: Sequence[Marker], secrets: Secrets, log: Callable[[str], None]) -> Tell:
    """Return what tells people, and marks a way back meanwhile."""

    def both(notice: Notice) -> Callable[[], None]:
        if notice.event not in WAYS_BACK:
            return tell(notice)
        mark = Mark("restore", notice.service, notice.run, notice.version or "unknown", notice.text)
        marked_now = marked(markers, secrets, mark, log)
        told = tell(notice)

        def wait() -> None:
            told()
            marked_now()

        return wait

    return both if markers else tell


@dataclass(frozen=True)
class _Key:
    """A key, or why there is none."""

    text: str = field(default="", repr=False)
    missing: str = ""


def _key(marker: Marker, secrets: Secrets) -> _Key:
    try:
        return _Key(secrets(marker.connection).password)
    except BlueGreenError as error:
        return _Key(missing=f"not sent: {error}")
    except Exception as error:  # noqa: BLE001 - the release goes on
        return _Key(missing=f"not sent: {type(error).__name__}")


async def _all(markers: Sequence[Marker], keys: Sequence[_Key], mark: Mark) -> list[str]:
    sent = await asyncio.gather(*(_one(*both, mark) for both in zip(markers, keys, strict=True)))
    return [f"marker {marker.type} ({mark.turn}): {said}" for marker, said in zip(markers, sent, strict=True)]


async def _one(marker: Marker, key: _Key, mark: Mark) -> str:
    if key.missing:
        return key.missing
    try:
        path, headers, body = _request(marker, key.text, mark)
        headers |= {"Content-Type": "application/json"}
        async with asking() as asker:
            address = Address.of(marker.url, path)
            got = await asker.ask(address, PATIENCE, method="POST", headers=headers, body=json.dumps(body))
        return _said(marker, got)
    except NoAnswer as error:
        return f"not taken: {error.kind}"
    except Exception as error:  # noqa: BLE001 - its text may hold the key
        return f"not taken: {type(error).__name__}"


def _said(marker: Marker, got: Answer) -> str:
    if got.status // 100 != 2:
        return f"not taken: it answered {got.status}"
    # GraphQL says 200 to everything.
    refused = marker.type == "newrelic" and "errors" in json.loads(got.text)
    return "not taken: New Relic names errors; see the key and the entity" if refused else "taken"


def _request(marker: Marker, key: str, mark: Mark) -> tuple[str, dict[str, str], dict[str, Any]]:
    """Return path, headers and body, as each one's documentation has them."""
    at = now_utc().timestamp()
    match marker:
        case GrafanaMarker():
            body = {"time": int(at * 1000), "tags": mark.tags, "text": mark.text}
            return "/api/annotations", {"Authorization": f"Bearer {key}"}, body
        case DatadogMarker():
            event = {"title": f"{mark.service}: {mark.turn} {mark.version}"[:100], "text": mark.text[:4000]}
            kind = {"restore": "warning", "finish": "success"}.get(mark.turn, "info")
            more = {"date_happened": int(at), "tags": mark.tags, "alert_type": kind}
            body = event | {"aggregation_key": f"{mark.service} {mark.run}"[:100], **more}
            return "/api/v1/events", {"DD-API-KEY": key}, body
        case NewRelicMarker():
            change = {"version": mark.version, "entityGuid": marker.entity, "deploymentType": "BLUE_GREEN"}
            told = change | {"description": mark.text, "groupId": mark.run}
            deployment = {**told, "timestamp": int(at * 1000)}
            return "/graphql", {"API-Key": key}, {"query": _MUTATION, "variables": {"deployment": deployment}}
