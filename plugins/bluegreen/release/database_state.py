"""What a service's database is like when a release has failed: for its report, and for ``bluegreen migrations status``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from bluegreen.catalog.models import Service
from bluegreen.core.errors import BlueGreenError
from bluegreen.core.ports import Secrets
from bluegreen.migrations.ports import KeepsFiles, Phase, Tool
from bluegreen.migrations.registry import make_tool
from bluegreen.release.migrate import backfills_left, connect_to, settings_of, written_database


def database_state(service: Service, secrets: Secrets) -> dict[str, Any]:
    """
    Return schema version, migrations, locks, replication and the application's last SQL errors, as JSON.

    Never raises: it is asked when something has failed already. A part that cannot be asked says why under ``not_known``.
    """
    found: dict[str, Any] = {}
    unknown: dict[str, str] = {}
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "migrations": lambda: _migrations(service, secrets),
        "server": lambda: _server(service, secrets),
        "log": lambda: _log(service),
    }
    for name, part in parts.items():
        try:
            told = part()
            unknown |= told.pop("not_known", {})
            found |= told
        except BlueGreenError as error:
            unknown[name] = str(error)
        except Exception as error:  # noqa: BLE001 - whatever it is, the report has the rest; its text may hold anything
            unknown[name] = type(error).__name__
    return found | ({"not_known": unknown} if unknown else {})


def _migrations(service: Service, secrets: Secrets) -> dict[str, Any]:
    tool = make_tool(service, secrets)
    if isinstance(tool, KeepsFiles):
        told: dict[str, Any] = asdict(tool.status())
        return {
            "version": told["version"],
            "migrations": told["states"],
            "errors": told["errors"],
            "left_over": list(told["left_over"]),
            "backfills_left": [one.name for one in backfills_left(service, secrets)],
        }
    return {"migrations": {name: "pending" for phase in (Phase.EXPAND, Phase.CONTRACT) for name in _left(tool, phase)}}


def _left(tool: Tool, phase: Phase) -> list[str]:
    return [one.name for one in tool.pending(phase)]


def _server(service: Service, secrets: Secrets) -> dict[str, Any]:
    if settings_of(service).database.type != "postgresql":
        return {}
    from bluegreen.migrations.trouble import state_of  # noqa: PLC0415 - the driver is an extra

    return state_of(connect_to(service, written_database(service, secrets, lambda _: None), secrets))


def _log(service: Service) -> dict[str, Any]:
    log = settings_of(service).log
    if log is None:
        return {}
    from bluegreen.migrations.app_log import sql_errors  # noqa: PLC0415

    return {"sql_errors": list(sql_errors(log))}
