"""Who hears of a release's events, as a service file says it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from bluegreen.catalog.markers import Marker
from bluegreen.catalog.section import ConnectionId, Section
from bluegreen.core.notice import ENDS, NEED_PEOPLE, Event

Kind = Literal["webhook", "apprise", "pagerduty", "opsgenie"]
WITH_ALERTS: tuple[Kind, ...] = ("pagerduty", "opsgenie")
"""Kinds that open an alert and close it again."""


def _no_event_twice(events: tuple[Event, ...]) -> tuple[Event, ...]:
    if len(set(events)) != len(events):
        raise ValueError("an event stands in it twice")
    return events


class Channel(Section):
    """One way to people."""

    connection: ConnectionId = Field(
        description="connection whose password is the whole URL (webhook, apprise) or the key (pagerduty, opsgenie)"
    )
    kind: Kind = Field("webhook", description="one POST (JSON), an Apprise URL, Events API v2, or Alert API")
    events: Annotated[tuple[Event, ...], AfterValidator(_no_event_twice)] = Field(
        NEED_PEOPLE, min_length=1, description="what it hears of; left out: all that need a person"
    )

    def hears(self, event: Event) -> bool:
        """Tell whether an event goes there; where there are alerts, what closes them always does."""
        return event in self.events or (self.kind in WITH_ALERTS and event in ENDS)


class Notify(Section):
    """Who hears of a release."""

    webhook: ConnectionId | None = Field(
        None, description="short for one channel of kind webhook: connection whose password is the whole URL"
    )
    channels: tuple[Channel, ...] = Field((), description="told side by side; none holds up another, nor the release")
    markers: tuple[Marker, ...] = Field(
        (), description="dashboards that get a line at start, switch, restore and finish"
    )

    @model_validator(mode="after")
    def _connections_differ(self) -> Notify:
        if len({channel.connection for channel in self.all}) != len(self.all):
            raise ValueError("each channel needs a connection of its own")
        return self

    @property
    def all(self) -> tuple[Channel, ...]:
        """Every channel, the short form's too."""
        return (*([Channel(connection=self.webhook)] if self.webhook else []), *self.channels)
