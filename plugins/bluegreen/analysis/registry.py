"""Which class makes which kind of evidence source. A new kind is a line here."""

from __future__ import annotations

from pkgutil import resolve_name
from typing import cast

from bluegreen.analysis.polled import Source
from bluegreen.catalog.models import Service
from bluegreen.core.ports import Secrets

SOURCES = {
    "prometheus": "bluegreen.analysis.prometheus_api:PrometheusSource",
}
"""Type in the service file -> module and class, imported when a service wants it; made with (section, secrets)."""


def make_source(service: Service, secrets: Secrets) -> Source | None:
    """Make the source of a service's evidence beyond the router's counters; None where the service names none."""
    if service.evidence is None:
        return None
    return cast("Source", resolve_name(SOURCES[service.evidence.type])(service.evidence, secrets))
