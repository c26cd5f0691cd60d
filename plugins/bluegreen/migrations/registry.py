"""Every kind of migration tool by its ``type`` in the catalog, imported only when a service uses it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pkgutil import resolve_name

from bluegreen.catalog.models import Service
from bluegreen.core.errors import CatalogError
from bluegreen.core.ports import Secrets
from bluegreen.migrations.ports import Tool

TOOLS: dict[str, str] = {
    "sql": "bluegreen.migrations.sql_runner:SqlRunner",
    "alembic": "bluegreen.migrations.alembic_tool:AlembicTool",
    "django": "bluegreen.migrations.django_tool:DjangoTool",
    "dbmate": "bluegreen.migrations.dbmate_tool:DbmateTool",
    "command": "bluegreen.migrations.command_tool:CommandTool",
}
"""type -> ``module:Class``; a class is made with (service, secrets, run, log)."""

_LOG = logging.getLogger("bluegreen").info


def make_tool(service: Service, secrets: Secrets, run: str = "", log: Callable[[str], None] = _LOG) -> Tool:
    """
    Make the tool that holds a service's migrations.

    :param run: the release, for the history
    :param log: gets what it does, a line each
    :raises CatalogError: the service has no migrations, or no tool is of its type
    :raises SecretMissing: the database's connection is not there
    """
    kind = service.migrations.tool.type if service.migrations else ""
    if kind not in TOOLS:
        known = ", ".join(sorted(TOOLS))
        fact = f"no migration tool is called {kind}" if kind else "the service has no migrations"
        raise CatalogError(fact, file=service.service, key="migrations.tool.type", next_step=f"write one of {known}")
    tool: Tool = resolve_name(TOOLS[kind])(service, secrets, run, log)
    return tool
