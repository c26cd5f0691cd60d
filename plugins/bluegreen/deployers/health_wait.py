"""What deployers share that are content when a color's targets are healthy at a version, and say why when they are not."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from functools import cached_property
from typing import cast

from bluegreen.catalog.deploys import DeployCommands
from bluegreen.catalog.models import Service
from bluegreen.checks.health import TargetHealth, ask_targets, deployed
from bluegreen.core.colors import Color
from bluegreen.core.deadlines import Deadline
from bluegreen.core.errors import BlueGreenError, DeployError
from bluegreen.core.masks import without
from bluegreen.core.ports import Deployed, Secrets
from bluegreen.deployers.child import TAIL, spellings
from bluegreen.deployers.fence import patience

Log = Callable[[str], None]
DIAGNOSE_TIMEOUT = timedelta(seconds=30)
LONGEST_DIAGNOSIS = 200
"""Lines of it that are kept."""

_LOG = logging.getLogger("bluegreen").info


class TargetsDeployer:
    """
    A deployer whose service answers health questions.

    :param service: the service, with its ``deploy`` section
    :param secrets: where logins and passwords come from; asked when they are needed
    :param log: gets each line of output as it comes, secrets masked
    :param fence_wait: how long an older deploy to the same color is waited for; by default ``fence.patience``
    """

    def __init__(
        self, service: Service, secrets: Secrets, log: Log = _LOG, fence_wait: timedelta | None = None
    ) -> None:
        self._service, self._secrets, self._log = service, secrets, log
        self._wait = patience(service) if fence_wait is None else fence_wait

    def status(self, color: Color) -> Deployed:
        """Ask the targets what runs on a color."""
        return deployed(self._service, color)

    def diagnose(self, color: Color) -> str:
        """Return what a person wants to see first when the color is broken; raises nothing."""
        raise NotImplementedError

    @cached_property
    def _passwords(self) -> dict[str, str]:
        """
        What ``deploy.secrets`` gives, by its keys; none where a deployer has no such section.

        Asked for once, before anything is touched: while a failure is told nothing can be missing any more.
        """
        wanted: Mapping[str, str] = getattr(self._service.deploy, "secrets", {})
        return {key: self._password(key, connection) for key, connection in wanted.items()}

    def _password(self, key: str, connection: str) -> str:  # noqa: ARG002 - for those that refuse some
        return self._secrets(connection).password

    @property
    def _hide(self) -> tuple[str, ...]:
        """What no line may show."""
        return tuple(self._passwords.values())

    def _ask(self, targets: Sequence[str]) -> list[TargetHealth]:
        return ask_targets(targets, self._service.health, self._service.entry.ca_file)

    def _up(self, found: Sequence[TargetHealth], version: str) -> bool:
        wanted = None if self._service.health.version is None else version
        return all(target.ok and target.version == wanted for target in found)

    def _await(self, color: Color, version: str, targets: Sequence[str]) -> list[TargetHealth]:
        """
        Wait until targets are healthy at a version.

        :raises DeployError: they are not in time; with their answers and a diagnosis
        """
        found: list[TargetHealth] = []
        deadline = Deadline(self._service.deploy.ready_within)
        for attempt in deadline.tries():
            found = self._ask(targets)
            if self._up(found, version):
                return found
            if attempt % 10 == 0:
                states = "; ".join(str(target) for target in found)
                self._log(f"waiting for {color} at {version}, {deadline.left:.0f} s left: {states}")
        raise self._not_up(color, self._late(version), found)

    def _late(self, version: str) -> str:
        return f"not healthy at {version} within {self._service.deploy.ready_within.total_seconds():g} s"

    def _not_up(self, color: Color, why: str, found: Sequence[TargetHealth]) -> DeployError:
        diagnosis = self.diagnose(color)
        self._log(f"{self._service.service}: {color}: diagnosis:\n{diagnosis}")
        states = "".join(f"\n  {target}" for target in found)
        last = "\n  ".join(diagnosis.splitlines()[-TAIL:])
        return DeployError(
            without(f"{why}:{states}\ndiagnosis:\n  {last}\n", spellings(self._hide)),
            service=self._service.service,
            part=color,
            next_step="no traffic was moved; mend the version and start a new release",
        )


class CommandsDeployer(TargetsDeployer):
    """A deployer that runs the service file's commands."""

    @property
    def _plan(self) -> DeployCommands:
        return cast("DeployCommands", self._service.deploy)

    def diagnose(self, color: Color) -> str:
        """Return each target's health answer, and what the diagnose command prints within 30 s; raises nothing."""
        lines: list[str] = []

        def keep(line: str) -> None:
            lines.extend([line] if len(lines) < LONGEST_DIAGNOSIS else [])

        try:
            lines += [str(target) for target in self._ask(self._service.colors[color].targets)]
            if self._plan.diagnose:
                self._look(self._plan.diagnose, color, keep)
        except BlueGreenError as error:
            lines.append(f"diagnose: {error.fact.partition(';')[0]}")
        return "\n".join(lines)

    def _look(self, argv: tuple[str, ...], color: Color, say: Log) -> None:
        """Run the diagnose command wherever the color is."""
        raise NotImplementedError

    def _words(self, color: Color, version: str = "", epoch: int | None = None, release: str = "") -> dict[str, str]:
        """Return what a command is told; no password may have such a name."""
        return {
            "SERVICE": self._service.service,
            "COLOR": str(color),
            "TARGETS": " ".join(self._service.colors[color].targets),
            "VERSION": version,
            "EPOCH": "" if epoch is None else str(epoch),
            "RELEASE": release,
        }
