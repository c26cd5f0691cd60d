"""Any local command as a deployer: it gets the color and the version in its environment, and its targets are asked."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import cast

from bluegreen.catalog.deploys import CommandDeploy
from bluegreen.checks.health import summed
from bluegreen.core.colors import Color
from bluegreen.core.errors import DeployError
from bluegreen.core.ports import Deployed
from bluegreen.deployers import health_wait
from bluegreen.deployers.child import Child
from bluegreen.deployers.environment import inherited
from bluegreen.deployers.fence import Fence
from bluegreen.deployers.health_wait import CommandsDeployer, Log
from bluegreen.deployers.role_moves import ROLE_WAIT, Verb, each_role, role_error, role_moves


class CommandDeployer(CommandsDeployer):
    """Runs the catalog's commands, with ``deploy.type: command``; see ``core.ports.Deployer``."""

    @property
    def _plan(self) -> CommandDeploy:
        return cast("CommandDeploy", self._service.deploy)

    def deploy(self, color: Color, version: str, epoch: int, release: str) -> Deployed:
        """
        Run the command and wait until every target is healthy at the version.

        What this very release has brought up already is left as it is.

        :raises DeployFenced: a newer claim has the color, or an older deploy does not end
        :raises DeployError: the command failed, or the targets did not become healthy
        :raises SecretMissing: a connection of ``deploy.secrets`` is not there
        """
        words = self._words(color, version, epoch, release)
        child = self._child(self._plan.command, words, self._plan.timeout, self._log)
        targets = self._service.colors[color].targets
        with self._fence(color).enter(epoch, release, self._wait) as held:
            if held.done == version and self._up(found := self._ask(targets), version):
                self._log(f"{self._service.service}: {color}: {version} is up already, by this very release")
            else:
                child.run()
                found = self._await(color, version, targets)
            held.finish(version)
        return summed(found)

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
        child = self._child(self._plan.retire, self._words(color, epoch=epoch), self._plan.timeout, self._log)
        with self._fence(color).enter(epoch, wait=self._wait):
            child.run()

    def run_roles(self, color: Color, epoch: int, release: str, versions: Mapping[Color, str]) -> None:
        """
        Run each role's commands: stop on the other color, then start on this one; see ``core.ports.RunsRoles``.

        :raises DeployFenced: a newer write has moved a role, or somebody is moving it
        :raises DeployError: a command failed, or did not end
        :raises SecretMissing: a connection of ``deploy.secrets`` is not there
        """

        def move(role: str) -> None:
            with self._fence(role).enter(epoch, release, min(self._wait, ROLE_WAIT)) as held:
                # Whoever begins to move a role forgets where it was: it is known, so nobody has begun since.
                if held.before is None or held.before.done != color:
                    for verb, where in role_moves(color):
                        words = self._words(where, versions.get(where, ""), epoch, release) | {"ROLE": role}
                        self._role(verb, role, where, words)
                held.finish(color)

        each_role(self._plan.roles, move)

    def roles(self) -> dict[str, Color | None]:
        """Return the color that each role was brought to, by the fence files; see ``core.ports.RunsRoles``."""
        left = {role: self._fence(role).left() for role in self._plan.roles}
        return {role: Color(found.done) if found.done else None for role, found in left.items() if found}

    def _role(self, verb: Verb, role: str, color: Color, words: Mapping[str, str]) -> None:
        plan = self._plan.roles[role]
        try:
            self._child(plan.start if verb == "start" else plan.stop, words, plan.timeout, self._log).run()
        except DeployError as error:
            raise role_error(self._service.service, role, verb, color, error.fact) from error
        self._log(f"{self._service.service}: {role}: {verb} on {color}: done")

    def _look(self, argv: tuple[str, ...], color: Color, say: Log) -> None:
        self._child(argv, self._words(color), health_wait.DIAGNOSE_TIMEOUT, say).run()

    def _fence(self, part: str) -> Fence:
        return Fence(self._plan.fence, self._service.service, part)

    def _child(self, argv: tuple[str, ...], words: Mapping[str, str], timeout: timedelta, say: Log) -> Child:
        return Child(
            argv=argv,
            env=inherited() | self._passwords | dict(words),
            cwd=self._plan.cwd,
            timeout=timeout,
            say=say,
            hide=self._hide,
            service=self._service.service,
            part=words["COLOR"],
        )
