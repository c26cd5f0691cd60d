"""Where a line is left at each turn of a release: Grafana, Datadog, New Relic."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from bluegreen.catalog.section import ConnectionId, Section, Url


class GrafanaMarker(Section):
    """An annotation of the organization, which both dashboards of ``include/monitoring`` show."""

    type: Literal["grafana"]
    url: Url = Field(description="its address, without /api", examples=["http://grafana:3000"])
    connection: ConnectionId = Field(description="connection whose password is a service account's token")


class DatadogMarker(Section):
    """An event; those of one run are a group."""

    type: Literal["datadog"]
    url: Url = Field("https://api.datadoghq.com", description="of your Datadog site")
    connection: ConnectionId = Field(description="connection whose password is an API key")


class NewRelicMarker(Section):
    """A change on an entity; those of one run are a group."""

    type: Literal["newrelic"]
    url: Url = Field("https://api.newrelic.com", description="of your New Relic region, without /graphql")
    connection: ConnectionId = Field(description="connection whose password is a user key")
    entity: str = Field(min_length=1, description="the entity's GUID")


Marker = Annotated[GrafanaMarker | DatadogMarker | NewRelicMarker, Field(discriminator="type")]
