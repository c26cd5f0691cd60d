"""What Airflow's deadline calls when a release takes too long: it tells people, and moves no traffic."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from bluegreen.catalog.load import load_service, services_folder
from bluegreen.edge import secrets_of
from bluegreen.release.notify import tell_overdue
from bluegreen.release.ports import Ports
from bluegreen.release.watch import in_thread
from bluegreen.release.wiring import ports_for

log = logging.getLogger(__name__)


async def tell_people(service: str, after: str, context: Mapping[str, Any]) -> str:
    """
    Tell the service's channels, by its file of today.

    Airflow calls it on the triggerer's loop, once for each run that has not ended in time.

    :param service: name in the catalog
    :param after: ``release.deadline``, for people
    :param context: Airflow's, with the run
    :returns: the run's id, which Airflow keeps as the result
    :raises CatalogError: there is no such service any more, or its file is broken
    """
    run = str(context["dag_run"]["dag_run_id"])
    found = await in_thread(lambda: load_service(services_folder(), service))
    secrets = secrets_of(found)

    def tell() -> None:
        ports: Ports = ports_for(found, secrets, lambda line: log.info("%s", line))
        tell_overdue(ports, run, f"not ended {after} after it was asked for (release.deadline)")

    await in_thread(tell)
    return run
