"""``bluegreen lines``: what to add to the router's own configuration."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, cast

import typer

from bluegreen.catalog.load import load_service
from bluegreen.catalog.models import HAProxyNode, HAProxyRouter, NginxNode, NginxRouter, Service
from bluegreen.cli.exits import OK
from bluegreen.cli.session import Folder, ServiceName, folder_of
from bluegreen.core.colors import Color
from bluegreen.core.errors import ReleaseRefused

EXAMPLE = "Example: bluegreen lines shop --patch --live blue | sudo patch -d / -p0"

Patch = Annotated[bool, typer.Option("--patch", help="A patch of the files themselves (the node's `config`).")]
Live = Annotated[Color | None, typer.Option(help="With --patch: who has the traffic now, and keeps it.")]


def lines(
    ctx: typer.Context, service: ServiceName, patch: Patch = False, live: Live = None, services: Folder = None
) -> int:
    """
    Print what to add to the router's configuration.

    By hand, or as a patch to look at and apply. Nothing is written.
    """
    found = load_service(folder_of(ctx, services), service)
    if not isinstance(found.router, HAProxyRouter | NginxRouter):
        fact = f"a router of type {found.router.type} has no configuration file: its objects are in the cluster"
        step = f"see docs/kubernetes.md for the objects; bluegreen check {service} says what they lack"
        raise ReleaseRefused(fact, service=service, part="router", next_step=step)
    if not patch:
        print(lines_of(found).rstrip())
    elif live is None:
        raise ReleaseRefused("which color has the traffic now?", part="--live", next_step="say --live blue, or green")
    elif text := patch_of(found, live):
        # Bytes: a comment of the file may be in another encoding, and a patch must say it as it stands.
        sys.stdout.flush()
        sys.stdout.buffer.write(text.encode("utf-8", "surrogateescape"))
        sys.stdout.flush()
    else:
        print(f"{service}: nothing to add", file=sys.stderr)
    return OK


def lines_of(service: Service) -> str:
    """Return the lines of a service, for people to add."""
    router = service.router
    if isinstance(router, NginxRouter):
        from bluegreen.routers import nginx_config  # noqa: PLC0415 - only this kind needs it

        return nginx_config.lines_to_add(service, router)
    from bluegreen.routers import haproxy_config, haproxy_existing  # noqa: PLC0415 - only this kind needs it

    own = cast("HAProxyRouter", router)
    frontends = haproxy_existing.frontends_of(own)
    return haproxy_config.lines_to_add(service.service, own, service.entry.color_header, service.health.path, frontends)


def patch_of(service: Service, live: Color) -> str:
    """
    Return the patch that adds a service's lines to the configuration of its nodes on this host.

    :raises ReleaseRefused: a node's configuration is not named, or not here, or it cannot be told where a line belongs
    """
    from bluegreen.routers import existing, haproxy_existing, nginx_existing  # noqa: PLC0415 - only --patch needs them

    changes: dict[Path, existing.Edit] = {}
    router, nodes = service.router, cast("Sequence[HAProxyNode | NginxNode]", service.router.nodes)
    for number, node in enumerate(nodes):
        if node.config is None or node.ssh:
            where = f"on {node.ssh.host}" if node.ssh else "not named"
            step = f"name it, or add by hand what `bluegreen lines {service.service}` prints"
            fact = f"the node's own configuration is {where}"
            raise ReleaseRefused(fact, service=service.service, part=f"router.nodes[{number}].config", next_step=step)
        if isinstance(router, NginxRouter) and isinstance(node, NginxNode):
            changes |= nginx_existing.edits(service, router, node, live)
        elif isinstance(router, HAProxyRouter) and isinstance(node, HAProxyNode):
            changes |= haproxy_existing.edits(existing.text_of(node.config), service, router, node, live)
    return existing.patch({path: edit for path, edit in changes.items() if edit.old or not path.exists()})
