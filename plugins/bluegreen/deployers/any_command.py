"""Any local command as a deployer: it gets the color and the version in its environment, and its targets are asked."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from datetime import timedelta

from bluegreen.catalog.models import CommandDeploy, Service
from bluegreen.checks.health import TargetHealth, ask_color, deployed, summed
from bluegreen.core.colors import Color
from bluegreen.core.deadlines import Deadline
from bluegreen.core.errors import BlueGreenError, DeployError
from bluegreen.core.ports import Deployed, Secrets
from bluegreen.deployers.child import TAIL, Child
from bluegreen.deployers.fence import WAIT, Fence

Log = Callable[[str], None]
DIAGNOSE_TIMEOUT = timedelta(seconds=30)
LONGEST_DIAGNOSIS = 200
"""Lines of it that are kept."""

_LOG = logging.getLogger("bluegreen").info
# Airflow's own database, connections and variables are no business of a deployed program, which inherits all it gets.
_AIRFLOWS = ("AIRFLOW__", "AIRFLOW_CONN_", "AIRFLOW_VAR_")


class CommandDeployer:
    """
    Runs the catalog's commands; see ``core.ports.Deployer``.

    :param service: the service, with ``deploy.type: command``
    :param secrets: where the commands' passwords come from; asked when a command starts
    :param log: gets each line of output as it comes, secrets masked
    :param fence_wait: how long an older deploy to the same color is waited for
    """

    def __init__(self, service: Service, secrets: Secrets, log: Log = _LOG, fence_wait: timedelta = WAIT) -> None:
        self._service, self._secrets, self._log, self._wait = service, secrets, log, fence_wait
        self._plan: CommandDeploy = service.deploy

    def deploy(self, color: Color, version: str, epoch: int, release: str) -> Deployed:
        """
        Run the command and wait until every target is healthy at the version.

        What this very release has brought up already is left as it is.

        :raises DeployFenced: a newer claim has the color, or an older deploy does not end
        :raises DeployError: the command failed, or the targets did not become healthy
        :raises SecretMissing: a connection of ``deploy.secrets`` is not there
        """
        words = {"VERSION": version, "EPOCH": str(epoch), "RELEASE": release}
        child = self._child(self._plan.command, color, words, self._plan.timeout, self._log)
        with self._fence(color).enter(epoch, release, self._wait) as held:
            if held.done == version and self._up(found := ask_color(self._service, color), version):
                self._log(f"{self._service.service}: {color}: {version} is up already, by this very release")
            else:
                child.run()
                found = self._await(color, version)
            held.finish(version)
        return summed(found)

    def status(self, color: Color) -> Deployed:
        """Ask the targets what runs on a color."""
        return deployed(self._service, color)

    def diagnose(self, color: Color) -> str:
        """Return each target's health answer, and what the diagnose command prints within 30 s; raises nothing."""
        lines: list[str] = []

        def keep(line: str) -> None:
            lines.extend([line] if len(lines) < LONGEST_DIAGNOSIS else [])

        try:
            lines += [str(target) for target in ask_color(self._service, color)]
            if self._plan.diagnose:
                self._child(self._plan.diagnose, color, {}, DIAGNOSE_TIMEOUT, keep).run()
        except BlueGreenError as error:
            lines.append(f"diagnose: {error.fact.partition(';')[0]}")
        return "\n".join(lines)

    def retire(self, color: Color, epoch: int) -> None:
        """
        Run the retire command; without one nothing is stopped, and the log says so.

        :raises DeployFenced: a newer claim has the color, or an older deploy does not end
        :raises DeployError: the command failed
        :raises SecretMissing: a connection of ``deploy.secrets`` is not there
        """
        if self._plan.retire is None:
            self._log(f"{self._service.service}: {color}: the service file has no retire command, all goes on running")
            return
        child = self._child(self._plan.retire, color, {"EPOCH": str(epoch)}, self._plan.timeout, self._log)
        with self._fence(color).enter(epoch, wait=self._wait):
            child.run()

    def _fence(self, color: Color) -> Fence:
        return Fence(self._plan.fence, self._service.service, color)

    def _child(self, argv: tuple[str, ...], color: Color, words: dict[str, str], timeout: timedelta, say: Log) -> Child:
        passwords = {name: self._secrets(connection).password for name, connection in self._plan.secrets.items()}
        own = {
            "SERVICE": self._service.service,
            "COLOR": str(color),
            "TARGETS": " ".join(self._service.colors[color].targets),
            "VERSION": "",
            "EPOCH": "",
            "RELEASE": "",
        }
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(_AIRFLOWS)}
        return Child(
            argv=argv,
            env=inherited | passwords | own | words,
            cwd=self._plan.cwd,
            timeout=timeout,
            say=say,
            hide=tuple(passwords.values()),
            service=self._service.service,
            part=color,
        )

    def _up(self, found: Sequence[TargetHealth], version: str) -> bool:
        wanted = None if self._service.health.version is None else version
        return all(target.ok and target.version == wanted for target in found)

    def _await(self, color: Color, version: str) -> list[TargetHealth]:
        found: list[TargetHealth] = []
        for _ in Deadline(self._plan.ready_within).tries():
            found = ask_color(self._service, color)
            if self._up(found, version):
                return found
        raise self._not_up(color, version, found)

    def _not_up(self, color: Color, version: str, found: Sequence[TargetHealth]) -> DeployError:
        diagnosis = self.diagnose(color)
        self._log(f"{self._service.service}: {color}: diagnosis:\n{diagnosis}")
        states = "\n  ".join(str(target) for target in found)
        last = "\n  ".join(diagnosis.splitlines()[-TAIL:])
        return DeployError(
            f"not healthy at {version} within {self._plan.ready_within.total_seconds():g} s:\n  {states}\n"
            f"diagnosis:\n  {last}\n",
            service=self._service.service,
            part=color,
            next_step="no traffic was moved; mend the version and start a new release",
        )
