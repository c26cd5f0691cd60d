"""
The one error tree. Retryable or not is in the type; the text says service, part, fact and next step.

    BlueGreenError
    ├── CatalogError                a service file is wrong: file, line, key, found, allowed, what to do
    ├── ReleaseRefused              the input is wrong; nothing was touched
    │   └── ReleaseFinished         settled or restored already: start a new release or rollback__
    ├── SecretMissing               a connection that the catalog names is not there
    │   └── SecretPending           (retryable) it is being fetched
    ├── RouterError
    │   ├── RouterUnreachable       (retryable) a node does not answer
    │   ├── RouterRefused           the router's configuration or state forbids it: unknown backend, disk read-only
    │   ├── TrafficConflict         somebody else wrote: nothing is touched
    │   ├── NotSettled              (retryable) written, but not in force on every node
    │   ├── UnsupportedSplit        a split that this router cannot make
    │   └── NotProven               requests through the entry say otherwise
    ├── NotServing                  a color that should take traffic does not serve
    ├── DeployError
    │   ├── DeployFenced            a newer release has the target
    │   └── RolesAstray             (retryable) the traffic is back, but a worker or a cron job is not
    ├── CheckFailed                 a smoke test or prewarming found what it must not
    ├── NoNumber                    a source of evidence tells none: missing data, never zero
    │   └── QueryRefused            it does not understand the question
    ├── MigrationRefused            a migration is not safe, not valid, or not the one that was applied; nothing was touched
    ├── MigrationFailed             it ended at a statement, or what must be true of the data is not
    │   └── MigrationBlocked        (retryable) a lock or a connection could not be had in time; it goes on from there
    ├── NotApproved                 a person said no, or nobody answered
    └── Unhealthy                   the watch's verdict
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar


class BlueGreenError(Exception):
    """
    Base of all errors of this project.

    :param fact: what was found, and what was wanted
    :param service: name in the catalog
    :param part: what it is about: a node, a color, a check
    :param next_step: what to do about it
    """

    retryable: ClassVar[bool] = False

    def __init__(self, fact: str, *, service: str = "", part: str = "", next_step: str = "") -> None:
        self.service, self.part, self.fact, self.next_step = service, part, fact, next_step
        where = ": ".join(word for word in (service, part) if word)
        super().__init__(f"{where}: {fact}" if where else fact, next_step)

    def __str__(self) -> str:
        text, next_step = self.args
        return f"{text}; {next_step}" if next_step else text


class CatalogError(BlueGreenError):
    """
    A service file is wrong.

    :param file: the file's path
    :param line: line of the key, from 1; 0 where the file as a whole is meant
    :param key: path of the key, ``router.nodes[1].socket``
    :param problems: where a file has several, each of them
    """

    def __init__(
        self,
        fact: str,
        *,
        file: str,
        line: int = 0,
        key: str = "",
        next_step: str = "",
        problems: Sequence[CatalogError] = (),
    ) -> None:
        self.file, self.line, self.key = file, line, key
        self._problems = tuple(problems)
        super().__init__(fact, service=f"{file}:{line}" if line else file, part=key, next_step=next_step)

    @property
    def problems(self) -> tuple[CatalogError, ...]:
        """Every single problem; itself where there is one."""
        return self._problems or (self,)


class ReleaseRefused(BlueGreenError):
    """What was asked for cannot be done; nothing was touched."""


class ReleaseFinished(ReleaseRefused):
    """The release is settled or restored already."""


class SecretMissing(BlueGreenError):
    """A connection that the catalog names is not there."""


class SecretPending(SecretMissing):
    """A connection is being fetched, and whoever asks carries others who must not wait for it."""

    retryable = True


class RouterError(BlueGreenError):
    """Something about the router."""


class RouterUnreachable(RouterError):
    """A node does not answer."""

    retryable = True


class RouterRefused(RouterError):
    """The router's configuration or state forbids it."""


class TrafficConflict(RouterError):
    """Somebody else wrote in the meantime; nothing was touched."""


class NotSettled(RouterError):
    """A write is not in force on every node."""

    retryable = True


class UnsupportedSplit(RouterError):
    """A split that this router cannot make."""


class NotProven(RouterError):
    """Requests through the entry do not say what the router says."""


class NotServing(BlueGreenError):
    """A color that should take traffic does not serve."""


class DeployError(BlueGreenError):
    """A version could not be brought onto a color."""


class DeployFenced(DeployError):
    """A newer release holds the target."""


class RolesAstray(DeployError):
    """The traffic is where it should be, but a role does not run there, or still runs on the other color."""

    retryable = True


class CheckFailed(BlueGreenError):
    """A smoke test or prewarming found what it must not."""


class NoNumber(BlueGreenError):
    """A source of evidence tells no number: missing data, never zero."""


class QueryRefused(NoNumber):
    """A source of evidence does not understand the question; no later answer will be better."""


class MigrationRefused(BlueGreenError):
    """A migration is not safe, not valid, or not the one that was applied; nothing was touched."""


class MigrationFailed(BlueGreenError):
    """A migration ended at a statement, or what must be true of the data is not."""


class MigrationBlocked(MigrationFailed):
    """A lock or a connection could not be had in time; a next try goes on from there."""

    retryable = True


class NotApproved(BlueGreenError):
    """Somebody who was asked said no, or nobody answered in time."""


class Unhealthy(BlueGreenError):
    """The watch's verdict is not healthy."""
