"""
What deploys leave on objects of Kubernetes: who changed a color or a role last, and what was there before.

There is no lock on an object. Each write compares its ``resourceVersion``, and who would write refuses itself where a
newer claim stands: so two claims never write over each other, and none waits for another.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

from bluegreen.clusters.annotations import annotation
from bluegreen.core.colors import Color
from bluegreen.core.errors import DeployError, DeployFenced
from bluegreen.hosts.host_fence import Record

FENCE = "bluegreen.dev/fence"
"""Annotation: who changed the object last, as JSON of a ``Record``."""
FORMER = "bluegreen.dev/former"
"""Annotation of a Deployment while a deploy is not done: its size and spec before, as JSON."""
ROLE = "bluegreen.dev/role"
"""Annotation of a role's object: which move brought it where, as JSON of a ``Record``; a deploy to it leaves it as it is."""
SIZE = "bluegreen.dev/replicas"
"""Annotation of a Deployment that was scaled to 0: its size before."""
RELEASE = "bluegreen.dev/release"
"""Annotation of a pod template: run and claim that deployed it, so that each release makes pods of its own."""
CONFIG = "bluegreen.dev/config"
"""Annotation of a pod template: a hash of the ConfigMaps that its pods read."""
VERSION_LABEL = "app.kubernetes.io/version"
"""Label of pods: their version."""


@dataclass(frozen=True)
class Claim:
    """
    Who is about to write.

    :param service: name in the catalog
    :param part: the color or role
    :param epoch: the claim's epoch
    :param release: the claim's release; empty for a retire, which only has its epoch
    """

    service: str
    part: str
    epoch: int
    release: str

    def over(self, found: Mapping[str, Any]) -> Record | None:
        """
        Return who wrote an object last, None for nobody yet.

        :raises DeployFenced: a newer claim has it
        :raises DeployError: its mark cannot be read
        """
        before = record_of(found, self.service, self.part)
        other = before is not None and before.epoch == self.epoch and self.release not in ("", before.release)
        if before and (before.epoch > self.epoch or (other and before.release)):
            what = f"{found.get('kind', 'object')} {found['metadata']['name']}"
            raise DeployFenced(
                f"{what} has {before}, found epoch {self.epoch}",
                service=self.service,
                part=self.part,
                next_step=f"start a new release (if the router's stamps were lost, take {FENCE} off {what})",
            )
        return before

    def record(self, before: Record | None, done: str | None = None) -> Record:
        """
        Return what this claim leaves on an object.

        :param before: what is there
        :param done: what it has brought up; None for what the same claim had brought up before
        """
        same = before is not None and before.epoch == self.epoch
        release = self.release or (before.release if before and same else "")
        again = before is not None and (before.epoch, before.release) == (self.epoch, release)
        if before and again:
            return replace(before, done=before.done if done is None else done)
        since = datetime.now(UTC).isoformat(timespec="milliseconds")
        process = f"process {os.getpid()} on {socket.gethostname()}"
        return Record(self.epoch, release, since, process, done or "")


def record_of(found: Mapping[str, Any], service: str, part: str, key: str = FENCE) -> Record | None:
    """
    Return who wrote an object last, None for nobody yet.

    :param key: the annotation
    :raises DeployError: its mark cannot be read
    """
    text = annotation(found, key)
    if not text:
        return None
    try:
        return _checked(Record(**json.loads(text)), key)
    except (ValueError, TypeError) as error:
        raise DeployError(
            f"the annotation {key} of {found['metadata']['name']} is none of ours: {error}",
            service=service,
            part=part,
            next_step="see that nothing is being deployed, then take it off",
        ) from error


def _checked(record: Record, key: str) -> Record:
    """
    Return a record whose words say what they must.

    :raises ValueError: one is not
    """
    if datetime.fromisoformat(record.since).tzinfo is None:
        raise ValueError("its since has no time zone")
    if key == ROLE and record.done not in ("", *Color):
        raise ValueError("its done is no color")
    return record


def shown(record: Record) -> str:
    """Return a record as the annotation's text."""
    return json.dumps(asdict(record))
