"""The watch's trigger: one frozen spec in, one tagged event out."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from bluegreen.edge import secrets_of
from bluegreen.release.watch import WatchSpec, in_thread, watch
from bluegreen.release.wiring import ports_for


class WatchTrigger(BaseTrigger):
    """
    Watch a shift; put the traffic back by itself when the verdict is bad.

    ``cleanup`` and ``on_kill`` stay Airflow's own, which move no traffic: they run at every exit, a triggerer's restart
    included. The lease and the release's teardown see to what is left.

    :param spec: a ``WatchSpec`` as JSON; it holds ids of connections, never what is in them
    """

    def __init__(self, spec: dict[str, Any]) -> None:
        super().__init__()
        self.spec = spec

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the spec."""
        return "bluegreen.triggers.watch.WatchTrigger", {"spec": self.spec}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield a ``WatchEnd`` as JSON, and how often the watch asked an API with other clients."""
        spec = WatchSpec.model_validate(self.spec)
        try:
            secrets = secrets_of(spec.service)
            # Building the ports imports and opens files: not on the loop that carries other watches.
            ports = await in_thread(lambda: ports_for(spec.service, secrets, lambda line: self.log.info("%s", line)))
            end = (await watch(ports, spec)).model_dump(mode="json") | {"calls": dict(ports.calls)}
        except Exception as error:  # noqa: BLE001 - a trigger that raises is retried as a new, whole watch
            end = {
                "release": spec.release,
                "epoch": spec.epoch,
                "says": "error",
                "reason": f"the watch broke off: {type(error).__name__}: {error}",
            }
        yield TriggerEvent(end)
