"""What runs where a color runs: a command in its pods, a Job beside them; their output in the log, secrets masked."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from bluegreen.clusters.objects import JOBS, PODS, Json
from bluegreen.clusters.pod_commands import run_in_pod
from bluegreen.clusters.status import condition
from bluegreen.clusters.trouble import ClusterTrouble
from bluegreen.clusters.waits import Seen
from bluegreen.core.deadlines import Deadline
from bluegreen.core.errors import DeployError
from bluegreen.core.masks import masked, without
from bluegreen.core.ports import Ran
from bluegreen.deployers.child import LONGEST_LINE, TAIL, spellings
from bluegreen.deployers.health_wait import Log
from bluegreen.deployers.kube_objects import Objects, body_of
from bluegreen.deployers.kube_shapes import Odd, documents
from bluegreen.deployers.kube_words import filled

MANAGED, OURS = "app.kubernetes.io/managed-by", "bluegreen"
"""Label of a Job of ours, which the next one of its name replaces."""
INSTANCE = "app.kubernetes.io/instance"
"""Label of a Job: the service and color that it tests, so that no other service's test takes it away."""


@dataclass(frozen=True)
class Inside:
    """
    Commands and Jobs of a color.

    :param objects: the service's objects
    :param service: name in the catalog
    :param part: the color
    :param log: gets each line of their output
    :param hide: what no line may show
    """

    objects: Objects
    service: str
    part: str
    log: Log
    hide: tuple[str, ...] = field(default=(), repr=False)

    def command(self, pod: str, container: str | None, argv: Sequence[str], within: timedelta) -> Ran:
        """
        Run a command in a pod.

        :raises DeployError: it cannot be run
        """
        lines, began = _Lines(self.log, pod, self.hide), time.monotonic()
        try:
            code = run_in_pod(self.objects.cluster, pod, container, argv, Deadline(within), lines.feed)
        except ClusterTrouble as trouble:
            # A container's runtime says what it could not run, as it stands.
            fact = without(trouble.fact, spellings(self.hide))
            raise self.objects.error(ClusterTrouble(trouble.kind, fact, trouble.mend), self.part) from None
        lines.end()
        ended = f"found code {code}" if code is not None else f"it did not end within {within.total_seconds():g} s"
        failure = "" if code == 0 else f"expected code 0, {ended}{lines.quoted()}"
        return Ran(pod, failure, (time.monotonic() - began) * 1000)

    def job(self, file: Path, words: Mapping[str, str], within: timedelta) -> Ran:
        """
        Run a Job to its end; it is deleted when it completed, and stays when it did not.

        :raises DeployError: the file holds no Job, or it cannot be made
        """
        body = self._read(file, words)
        name, began = str(body["metadata"]["name"]), time.monotonic()
        self._make(name, body, Deadline(within))
        ends: list[Json] = []

        def over(seen: Seen) -> bool:
            if name not in seen:
                raise self._error(f"Job {name} was deleted while it ran", "start again")
            ends[:] = [one for kind in ("Complete", "Failed") if (one := condition(seen[name], kind))]
            return bool(ends)

        held = self.objects.wait(JOBS, self.part, over, Deadline(within), name=name)
        lines = self._logs(name)
        failure = _ending(held, ends, within) + (lines.quoted() if not held or ends[0]["type"] == "Failed" else "")
        if not failure:
            with self.objects.told(self.part):
                self.objects.cluster.delete(JOBS, name)
        return Ran(f"Job {name}", failure, (time.monotonic() - began) * 1000)

    def _read(self, file: Path, words: Mapping[str, str]) -> Json:
        try:
            found = [filled(one.body, words) for one in documents(file)]
        except Odd as odd:
            raise self._error(odd.fact, odd.mend) from None
        if [(one["apiVersion"], one["kind"]) for one in found] != [("batch/v1", "Job")]:
            raise self._error(f"{file} holds no Job of batch/v1", "one document with one Job, nothing else")
        body = body_of(found[0])
        body["metadata"]["labels"] = (body["metadata"].get("labels") or {}) | self._marks
        return body

    @property
    def _marks(self) -> dict[str, str]:
        return {MANAGED: OURS, INSTANCE: f"{self.service}-{self.part}"}

    def _make(self, name: str, body: Json, deadline: Deadline) -> None:
        before = self.objects.find(JOBS, name, self.part)
        if before:
            if not self._marks.items() <= (before["metadata"].get("labels") or {}).items():
                raise self._error(f"there is a Job {name} that is not ours", "give the smoke test's Job another name")
            with self.objects.told(self.part):
                self.objects.cluster.delete(JOBS, name)
            self.objects.wait(JOBS, self.part, lambda seen: name not in seen, deadline, labels=f"{MANAGED}={OURS}")
        with self.objects.told(self.part):
            self.objects.cluster.create(JOBS, {"apiVersion": "batch/v1", "kind": "Job", **body})

    def _logs(self, name: str) -> _Lines:
        lines = _Lines(self.log, f"Job {name}", self.hide)
        try:
            for pod in self.objects.cluster.list(PODS, f"batch.kubernetes.io/job-name={name}").items:
                lines.feed(self.objects.cluster.text(PODS, pod["metadata"]["name"], "log", {"tailLines": "200"}))
        except ClusterTrouble as trouble:
            lines.feed(f"no log: {trouble.fact}\n")
        lines.end()
        return lines

    def _error(self, fact: str, mend: str) -> DeployError:
        return DeployError(fact, service=self.service, part=self.part, next_step=f"no traffic was moved; {mend}")


class _Lines:
    """Text in, masked lines out; the last ones are quoted."""

    def __init__(self, log: Log, where: str, hide: Iterable[str]) -> None:
        self._log, self._where, self._hide, self._rest = log, where, spellings(hide), ""
        self._last: deque[str] = deque(maxlen=TAIL)

    def feed(self, text: str) -> None:
        *whole, self._rest = (self._rest + text).split("\n")
        for line in whole:
            if shown := masked(without(line.rstrip(), self._hide))[:LONGEST_LINE]:
                self._last.append(shown)
                self._log(f"{self._where}: {shown}")

    def end(self) -> None:
        self.feed("\n")

    def quoted(self) -> str:
        return "".join(["; its last lines:", *(f"\n    {line}" for line in self._last)]) if self._last else ""


def _ending(held: bool, ends: Sequence[Json], within: timedelta) -> str:
    if not held:
        return f"it did not end within {within.total_seconds():g} s"
    failed = ends[0] if ends[0]["type"] == "Failed" else None
    return f"it failed: {failed.get('reason')}: {failed.get('message')}" if failed else ""
