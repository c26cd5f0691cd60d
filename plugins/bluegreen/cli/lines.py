"""``bluegreen lines``: what to add to the router's own configuration."""

from __future__ import annotations

import typer

from bluegreen.catalog.load import load_service
from bluegreen.catalog.models import Service
from bluegreen.cli.exits import OK
from bluegreen.cli.session import Folder, ServiceName, folder_of

EXAMPLE = "Example: bluegreen lines shop > shop.cfg"


def lines(ctx: typer.Context, service: ServiceName, services: Folder = None) -> int:
    """Print what to add to the router's configuration."""
    print(lines_of(load_service(folder_of(ctx, services), service)).rstrip())
    return OK


def lines_of(service: Service) -> str:
    """Return the lines of a service, for people to add."""
    if service.router.type == "nginx":
        from bluegreen.routers import nginx_config  # noqa: PLC0415 - only this kind needs it

        return nginx_config.lines_to_add(service, service.router)
    from bluegreen.routers import haproxy_config  # noqa: PLC0415 - only this kind needs it

    return haproxy_config.lines_to_add(service.service, service.router, service.entry.color_header)
