"""Hosts behind SSH as a deployer: uploads, commands and a restart on each host of a color, under the fence of each."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

from bluegreen.catalog.deploys import SshDeploy
from bluegreen.catalog.models import Ssh
from bluegreen.catalog.section import SshLogin
from bluegreen.checks.health import summed
from bluegreen.core.colors import Color
from bluegreen.core.deadlines import Deadline
from bluegreen.core.errors import DeployError, DeployFenced
from bluegreen.core.ports import Credentials, Deployed
from bluegreen.deployers import health_wait
from bluegreen.deployers.far_host import Command, FarHost, Step, each
from bluegreen.deployers.health_wait import LONGEST_DIAGNOSIS, CommandsDeployer, Log
from bluegreen.deployers.role_moves import ROLE_WAIT, Verb, each_role, role_error, role_moves
from bluegreen.deployers.upload import Source
from bluegreen.hosts import background
from bluegreen.hosts.host_files import Trouble

_WORD = re.compile(
    r"\$(?:(?P<bare>COLOR|HOST|SERVICE|VERSION)(?![A-Za-z0-9_])|\{(?P<braced>COLOR|HOST|SERVICE|VERSION)\})"
)
_SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+:@-]*")
"""What may stand in a path or an argument, which may be the text of a shell."""


class SshDeployer(CommandsDeployer):
    """Deploys to hosts behind SSH, with ``deploy.type: ssh``; see ``core.ports.Deployer``."""

    @property
    def _plan(self) -> SshDeploy:
        return cast("SshDeploy", self._service.deploy)

    def deploy(self, color: Color, version: str, epoch: int, release: str) -> Deployed:
        """
        Bring the version onto each host and wait until its targets are healthy.

        Every host is reached, and its fence held, before the first is touched. Hosts that this very release has brought
        up already are left as they are.

        :raises DeployFenced: a newer claim has a host, or an older deploy does not end
        :raises DeployError: a host failed; names what each host has now
        :raises SecretMissing: a connection of the service file is not there
        """
        words = self._words(color, version, epoch, release)
        steps = {host: self._steps(words | {"HOST": host}) for host in self._plan.hosts[color]}
        with self._connected([color], self._say) as (hosts, unreached):
            if unreached:
                raise self._failed(color, hosts, unreached, "nothing was touched; ")
            self._enter(color, hosts, epoch, release, self._wait)
            for batch in self._batches(self._behind(color, hosts, version)):
                failures = self._each(batch, lambda host: host.bring(version, steps[host.name]))
                if failures:
                    raise self._failed(color, hosts, failures)
                self._await_hosts(color, version, batch, hosts)
            found = self._await(color, version, self._service.colors[color].targets)
        return summed(found)

    def retire(self, color: Color, epoch: int) -> None:
        """
        Run the retire command on each host that is reached; without one nothing is stopped, and the log says so.

        :raises DeployFenced: a newer claim has a host, or an older deploy does not end
        :raises DeployError: hosts were not reached, or the command failed on them
        :raises SecretMissing: a connection of the service file is not there
        """
        argv = self._plan.retire
        if argv is None:
            self._log(f"{self._service.service}: {color}: the service file has no retire command, all goes on running")
            return
        words = self._words(color, epoch=epoch)
        commands = {host: self._command(argv, words | {"HOST": host}) for host in self._plan.hosts[color]}
        with self._connected([color], self._say) as (hosts, unreached):
            reached = [host for host in hosts if host not in unreached]
            self._enter(color, reached, epoch, "", self._wait)
            failures = unreached | self._each(reached, lambda host: host.run(commands[host.name]))
            if failures:
                raise self._failed(color, hosts, failures)

    def run_roles(self, color: Color, epoch: int, release: str, versions: Mapping[Color, str]) -> None:
        """
        Run each role's commands: stop on every host of the other color, then start; see ``core.ports.RunsRoles``.

        The hosts of both colors hold the role's fence.

        :raises DeployFenced: a newer write has moved a role, or somebody is moving it
        :raises DeployError: a host was not reached, or a command failed or did not end
        :raises SecretMissing: a connection of the service file is not there
        """
        if not self._plan.roles:
            return
        with self._connected(Color, self._say) as (hosts, unreached):
            reached = [host for host in hosts if host not in unreached]

            def move(role: str) -> None:
                self._enter(role, reached, epoch, release, min(self._wait, ROLE_WAIT))
                try:
                    if unreached or any(host.before != color for host in reached):
                        for verb, where in role_moves(color):
                            words = self._words(where, versions.get(where, ""), epoch, release) | {"ROLE": role}
                            self._role(verb, role, where, words, hosts, unreached)
                    self._finish(role, hosts, reached, color)
                finally:
                    self._each(reached, FarHost.leave)

            each_role(self._plan.roles, move)

    def roles(self) -> dict[str, Color | None]:
        """
        Return the color that each role was brought to, by the fences of the hosts that answer.

        :raises DeployError: no host answers
        """
        if not self._plan.roles:
            return {}
        found: dict[str, set[str]] = {role: set() for role in self._plan.roles}

        async def ask(host: FarHost) -> None:
            for role, colors in found.items():
                left = await host.left(self._fence(role))
                colors.update([] if left is None else [left])

        with self._connected(Color, self._say) as (hosts, unreached):
            failures = unreached | self._each([host for host in hosts if host not in unreached], ask)
        if len(failures) == len(hosts):
            raise self._failed("roles", hosts, failures)
        # Hosts that differ are half-way: a write moved some of them.
        known = {role: colors for role, colors in found.items() if colors}
        return {
            role: Color(min(colors)) if len(colors) == 1 and min(colors) else None for role, colors in known.items()
        }

    def _role(
        self,
        verb: Verb,
        role: str,
        color: Color,
        words: Mapping[str, str],
        hosts: Sequence[FarHost],
        unreached: Mapping[FarHost, Trouble],
    ) -> None:
        plan = self._plan.roles[role]
        mine = [host for host in hosts if host.name in self._plan.hosts[color]]
        argv = plan.start if verb == "start" else plan.stop
        commands = {host.name: self._command(argv, {**words, "HOST": host.name}, plan.timeout) for host in mine}
        failures = {host: unreached[host] for host in mine if host in unreached}
        failures |= self._each([host for host in mine if host not in failures], lambda h: h.run(commands[h.name]))
        if failures:
            raise role_error(self._service.service, role, verb, color, _told(mine, failures))
        self._log(f"{self._service.service}: {role}: {verb} on {color}: done")

    def _look(self, argv: tuple[str, ...], color: Color, say: Log) -> None:
        names = self._plan.hosts[color]
        told: dict[str, list[str]] = {name: [] for name in names}

        def keep(host: str, line: str) -> None:
            told[host].extend([line] if len(told[host]) < max(1, LONGEST_DIAGNOSIS // len(names)) else [])

        words = self._words(color)
        with self._connected([color], keep) as (hosts, unreached):
            timeout = health_wait.DIAGNOSE_TIMEOUT
            looks = {name: self._command(argv, words | {"HOST": name}, timeout) for name in names}
            reached = [host for host in hosts if host not in unreached]
            failures = unreached | self._each(reached, lambda host: host.run(looks[host.name], "look"))
        for host in hosts:
            more = [failures[host].fact.partition(";")[0]] if host in failures else []
            for line in [*told[host.name], *more]:
                say(f"{host.name}: {line}")

    # Before anything is touched

    def _steps(self, words: Mapping[str, str]) -> list[Step]:
        plan, steps = self._plan, list[Step]()
        for upload in plan.upload:
            mode = int(upload.mode, 8) if upload.mode else None
            source = Source(Path(self._filled(upload.source, words)), self._filled(upload.to, words), mode)
            try:
                source.require()
            except Trouble as trouble:
                raise self._refused(trouble.fact, words, trouble.mend) from trouble
            steps.append((f"upload {source.to}", source))
        for number, argv in enumerate(plan.commands, 1):
            steps.append((f"command {number} of {len(plan.commands)}", self._command(argv, words)))
        return steps + ([("restart", self._command(plan.restart, words))] if plan.restart else [])

    def _command(self, argv: Sequence[str], words: Mapping[str, str], timeout: timedelta | None = None) -> Command:
        env, cwd = self._passwords | dict(words), str(self._plan.cwd or "")
        return Command([self._filled(word, words) for word in argv], env, cwd, timeout or self._plan.timeout)

    def _filled(self, text: str, words: Mapping[str, str]) -> str:
        def fill(found: re.Match[str]) -> str:
            name = found["bare"] or found["braced"]
            if name == "VERSION" and words[name] and not _SAFE.fullmatch(words[name]):
                fact = f"version {words[name]!r} cannot stand in {text!r}"
                raise self._refused(fact, words, "use letters, digits and . _ + : @ - in versions")
            return words[name]

        return _WORD.sub(fill, text)

    def _refused(self, fact: str, words: Mapping[str, str], mend: str) -> DeployError:
        part = words["COLOR"]
        return DeployError(fact, service=self._service.service, part=part, next_step=f"nothing was touched; {mend}")

    # Hosts

    def _say(self, host: str, line: str) -> None:
        self._log(f"{host}: {line}")

    @contextmanager
    def _connected(
        self, colors: Iterable[Color], say: Callable[[str, str], None]
    ) -> Iterator[tuple[list[FarHost], dict[FarHost, Trouble]]]:
        """Connect to every host of some colors; give those that were not reached with their trouble."""
        plan, named = self._plan, list(colors)
        credentials = self._secrets(plan.connection) if plan.connection else Credentials()
        secrets = self._hide
        tag = "-".join([self._service.service, *named])
        hosts = [
            FarHost(name, _address(plan, name), credentials, tag, partial(say, name), secrets)
            for name in dict.fromkeys(name for color in named for name in plan.hosts[color])
        ]
        try:
            yield hosts, self._each(hosts, FarHost.open)
        finally:
            self._each(hosts, FarHost.close)

    def _each(self, hosts: Sequence[FarHost], work: Callable[[FarHost], Awaitable[None]]) -> dict[FarHost, Trouble]:
        return background.wait(each(hosts, work, self._plan.max_parallel))

    def _fence(self, part: str) -> dict[str, str]:
        return {"folder": str(self._plan.fence or ""), "service": self._service.service, "part": part}

    def _enter(self, part: str, hosts: Sequence[FarHost], epoch: int, release: str, wait: timedelta) -> None:
        """Hold the fence of every host: in one order, so that no two deploys wait for each other."""
        deadline = Deadline(wait)
        for host in hosts:
            try:
                background.wait(host.enter(self._fence(part), epoch, release, deadline.left))
            except Trouble as trouble:
                raise self._failed(part, hosts, {host: trouble}, "nothing was touched; ") from trouble

    def _batches(self, hosts: list[FarHost]) -> list[list[FarHost]]:
        if self._plan.order == "rolling":
            return [[host] for host in hosts]
        return [hosts] if hosts else []

    def _behind(self, color: Color, hosts: Sequence[FarHost], version: str) -> list[FarHost]:
        """Return the hosts that this very release has not brought up."""
        targets = self._service.colors[color].targets
        answers = dict(zip(targets, self._ask(targets), strict=True)) if any(host.done for host in hosts) else {}
        behind = []
        for host in hosts:
            if host.done == version and self._up([answers[target] for target in self._targets(color, host)], version):
                host.state = f"{version} was up already, by this very release"
                self._log(f"{host.name}: {host.state}")
            else:
                behind.append(host)
        return behind

    def _targets(self, color: Color, host: FarHost) -> tuple[str, ...]:
        """Return a host's targets; all of the color where they cannot be told apart."""
        targets = self._service.colors[color].targets
        return targets if self._plan.unmatched(color, targets) else self._plan.targets_of(host.name, targets)

    def _await_hosts(self, color: Color, version: str, batch: Sequence[FarHost], hosts: Sequence[FarHost]) -> None:
        """Wait until what was brought is up, and note it on its hosts."""
        targets = list(dict.fromkeys(target for host in batch for target in self._targets(color, host)))
        try:
            self._await(color, version, targets)
        except DeployError as error:
            states = _states(hosts)
            raise DeployError(
                f"{error.fact}{states}\n", service=error.service, part=error.part, next_step=error.next_step
            ) from error
        self._finish(color, hosts, batch, version)

    def _finish(self, part: str, hosts: Sequence[FarHost], done: Sequence[FarHost], what: str) -> None:
        failures = self._each(done, lambda host: host.finish(what))
        # A host that is lost now has it all the same; a repeated task brings it there once more, which does no harm.
        if fenced := {host: trouble for host, trouble in failures.items() if trouble.kind == "fenced"}:
            raise self._failed(part, hosts, fenced)

    def _failed(
        self, part: str, hosts: Sequence[FarHost], failures: Mapping[FarHost, Trouble], touched: str = ""
    ) -> DeployError:
        others = _states([host for host in hosts if host not in failures])
        first = next(iter(failures.values()))
        kind: type[DeployError] = DeployFenced if first.kind == "fenced" else DeployError
        fact = f"{_told(hosts, failures)}{others}\n"
        return kind(fact, service=self._service.service, part=part, next_step=touched + first.mend)


def _told(hosts: Sequence[FarHost], failures: Mapping[FarHost, Trouble]) -> str:
    told = "".join(f"\n  {host.name}: {trouble.fact}".replace("\n", "\n  ") for host, trouble in failures.items())
    return f"{len(failures)} of {len(hosts)} hosts failed:{told}"


def _address(plan: SshDeploy, host: str) -> Ssh:
    """Return how to reach a host that the service file names."""
    address = urlsplit(f"//{host}")
    login = {name: getattr(plan, name) for name in SshLogin.model_fields}
    return Ssh(host=address.hostname or host, port=address.port or 22, **login)


def _states(hosts: Sequence[FarHost]) -> str:
    return "".join(["\nthe other hosts:", *(f"\n  {host.name}: {host.state}" for host in hosts)]) if hosts else ""
