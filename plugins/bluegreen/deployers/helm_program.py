"""
Helm as a program: called with the connection's login and the release's values, neither of which stands in its arguments.

Helm 3 and 4 are both spoken to; it ends when we do, and when a newer claim has the color.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from bluegreen.clusters.access import Access
from bluegreen.clusters.objects import Json
from bluegreen.core.errors import DeployError
from bluegreen.core.masks import masked, without
from bluegreen.deployers.child import TAIL, Lines, spellings, with_last_lines
from bluegreen.deployers.environment import inherited
from bluegreen.deployers.fence import deploy_error
from bluegreen.deployers.health_wait import Log
from bluegreen.hosts import host_child
from bluegreen.hosts.host_files import Trouble

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")
"""Where a pod finds its own login."""


@dataclass(frozen=True)
class Helm:
    """
    Helm for one release of it.

    :param program: how it is called
    :param access: the cluster's login
    :param namespace: of the release
    :param name: of the release
    :param seconds: for one call
    :param service: name in the catalog, for errors
    :param part: the color, for errors
    :param log: gets each line of output, secrets masked
    :param hide: what no line may show
    """

    program: tuple[str, ...]
    access: Access
    namespace: str
    name: str
    seconds: float
    service: str
    part: str
    log: Log
    hide: tuple[str, ...] = field(default=(), repr=False)

    @cached_property
    def major(self) -> int:
        """
        Its version's first number.

        :raises DeployError: it cannot be called
        """
        told = self._read("version", "--template", "{{.Version}}", own=True).strip().lstrip("v")
        number = told.partition(".")[0]
        return int(number) if number.isdigit() else 3

    def upgrade(
        self, chart: Sequence[str], values: Sequence[str], mine: Mapping[str, Any], gone: Callable[[], bool]
    ) -> None:
        """
        Install or upgrade, wait, and let Helm itself take it back where it fails.

        :param chart: the chart and options that say where it is
        :param values: files of values
        :param mine: values that count more than all of them
        :param gone: asked all the time; when True, Helm is ended
        :raises DeployError: it failed
        """
        careful = ["--rollback-on-failure", "--wait", "--force-conflicts"] if self.major > 3 else ["--atomic", "--wait"]
        words = ["upgrade", "--install", self.name, *chart, *careful, "--timeout", f"{self.seconds:.0f}s"]
        self._run(words, values, mine, gone, times=2)  # its way back waits as long again

    def would_be(self, chart: Sequence[str], values: Sequence[str], mine: Mapping[str, Any]) -> str:
        """
        Return the manifests that an upgrade would apply, having asked the API server about them.

        :raises DeployError: it would fail; nothing was touched
        """
        words = ["upgrade", "--install", self.name, *chart, "--dry-run=server", "--output", "json"]
        told = self._read(*words, values=values, mine=mine)
        try:
            return str(json.loads(told[max(told.find("{"), 0) :])["manifest"])
        except (ValueError, KeyError, TypeError):
            # Not its text: it may show what a Secret holds.
            raise self._error(
                "helm upgrade --dry-run printed no JSON", "nothing was touched; give a Helm 3 or 4"
            ) from None

    def manifest(self) -> str:
        """
        Return the manifests of what is deployed; empty for nothing.

        :raises DeployError: it cannot be told
        """
        return self._read("get", "manifest", self.name) if self.history() else ""

    def history(self) -> list[Json]:
        """
        Return the release's revisions, the oldest first; none where it was never installed.

        :raises DeployError: they cannot be told
        """
        try:
            return list(json.loads(self._read("history", self.name, "--max", "20", "--output", "json") or "[]"))
        except DeployError as error:
            if "release: not found" in error.fact:
                return []
            raise

    def told(self) -> list[str]:
        """
        Return a line for each revision, the oldest first.

        :raises DeployError: they cannot be told
        """
        return [self.line(one) for one in self.history()]

    def line(self, one: Json) -> str:
        """Return a revision as a line: what failed has Helm's error in it."""
        return self.hidden(
            f"helm revision {one['revision']}: {one['status']}, {one.get('chart')}: {one.get('description')}"
        )

    def hidden(self, text: str) -> str:
        """Return a text without what no line may show."""
        return masked(without(text, spellings(self.hide)))

    def half_way(self, history: Sequence[Json] | None = None) -> bool:
        """
        Tell whether an upgrade is under way, or was left so: Helm itself cannot tell which.

        :param history: as it was told, None to ask
        :raises DeployError: it cannot be told
        """
        told = self.history() if history is None else history
        return bool(told) and str(told[-1]["status"]).startswith("pending")

    def rollback(self, revision: int) -> None:
        """
        Go back to a revision, and wait.

        :raises DeployError: it failed
        """
        self._run(["rollback", self.name, str(revision), "--wait", "--timeout", f"{self.seconds:.0f}s"])

    def uninstall(self) -> None:
        """
        Take the release away; one that is not there is none.

        :raises DeployError: it failed
        """
        self._run(["uninstall", self.name, "--ignore-not-found", "--wait", "--timeout", f"{self.seconds:.0f}s"])

    # Calls

    def _run(
        self,
        words: Sequence[str],
        values: Sequence[str] = (),
        mine: Mapping[str, Any] | None = None,
        gone: Callable[[], bool] = lambda: False,
        times: int = 1,
    ) -> None:
        """
        Run what changes something.

        :param times: how often it may wait for `seconds`
        """
        lines = Lines(self.log, self.hide)
        with self._called(words, values, mine) as argv:
            try:
                host_child.run(argv, self._env(), "", times * self.seconds + 30, lines.feed, gone)
            except Trouble as trouble:
                lines.end()
                told = with_last_lines(trouble, f"{argv[0]} {words[0]}", lines)
                raise deploy_error(told, self.service, self.part) from trouble
            lines.end()

    def _read(
        self, *words: str, values: Sequence[str] = (), mine: Mapping[str, Any] | None = None, own: bool = False
    ) -> str:
        """
        Return what a call prints.

        :param own: it asks nothing of the cluster
        """
        with self._called(words, values, mine, own=own) as argv:
            try:
                done = subprocess.run(
                    argv, capture_output=True, text=True, timeout=self.seconds, check=False, env=self._env()
                )
            except (OSError, subprocess.TimeoutExpired) as error:
                fact = f"{argv[0]} cannot be started" if isinstance(error, OSError) else f"{argv[0]} did not end"
                raise self._error(f"{fact}: {type(error).__name__}", "give deploy.program, a Helm 3 or 4") from None
        if done.returncode != 0:
            last = self.hidden(done.stderr).strip().splitlines()[-TAIL:]
            raise self._error(f"{argv[0]} {words[0]}: " + "\n  ".join(last), "nothing was touched; mend what it names")
        return done.stdout

    @contextmanager
    def _called(
        self, words: Sequence[str], values: Sequence[str], mine: Mapping[str, Any] | None, *, own: bool = False
    ) -> Iterator[list[str]]:
        """Give the whole command; login and values are in files that only we can read, and that are gone after it."""
        argv = [*self.program, *words, *(word for file in values for word in ("--values", file))]
        with tempfile.TemporaryDirectory(prefix="bluegreen-helm-") as made:
            folder = Path(made)
            if mine:
                argv += ["--values", str(_written(folder / "values.json", json.dumps(mine)))]
            yield argv if own else [*argv, "--namespace", self.namespace, *self._login(folder)]

    def _login(self, folder: Path) -> list[str]:
        if trouble := self.access.trouble:
            raise self._error(trouble.fact, trouble.mend)
        words = ["--kube-context", str(context)] if (context := self.access.field("cluster_context")) else []
        words += ["--kube-insecure-skip-tls-verify"] if self.access.is_on("disable_verify_ssl") else []
        if path := self.access.field("kube_config_path"):
            return [*words, "--kubeconfig", str(path)]
        if found := self.access.field("kube_config"):
            text = found if isinstance(found, str) else yaml.safe_dump(found)
            return [*words, "--kubeconfig", str(_written(folder / "kubeconfig", text))]
        return words

    def _env(self) -> dict[str, str]:
        """Return Helm's environment: it takes a KUBECONFIG before the pod's service account, we after it."""
        ours = self.access.is_on("in_cluster") or SERVICE_ACCOUNT.exists()
        return inherited() | ({"KUBECONFIG": os.devnull} if ours else {})

    def _error(self, fact: str, mend: str) -> DeployError:
        return DeployError(fact, service=self.service, part=self.part, next_step=mend)


def _written(path: Path, text: str) -> Path:
    path.touch(0o600)
    path.write_text(text, encoding="utf-8")
    return path
