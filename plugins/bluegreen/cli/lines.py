"""``bluegreen lines``: what to add to the router's own configuration."""

from __future__ import annotations

import typer

from bluegreen.catalog.load import load_service
from bluegreen.catalog.models import Service
from bluegreen.cli.exits import OK
from bluegreen.cli.session import Folder, ServiceName, folder_of

EXAMPLE = "Example: bluegreen lines shop > shop.cfg"


def lines(ctx: typer.Context, service: ServiceName, services: Folder = None) -> int:
    """Print what to add to haproxy.cfg."""
    print(lines_of(load_service(folder_of(ctx, services), service)).rstrip())
    return OK


def lines_of(service: Service) -> str:
    """Return the lines of a service, for people to add."""
    from bluegreen.routers.haproxy_config import lines_to_add  # noqa: PLC0415 - only this kind needs it

    return lines_to_add(service.service, service.router, service.entry.color_header)
