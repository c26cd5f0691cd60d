"""Texts of a service file and of manifests with the release's words filled in."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from bluegreen.catalog.kube_deploys import WORD, word_of
from bluegreen.core.errors import DeployError

_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")


def filled(found: Any, words: Mapping[str, str]) -> Any:
    """
    Return texts, keys and what they stand in, however deep, with $COLOR, $SERVICE and $VERSION replaced.

    :param words: COLOR, SERVICE and VERSION
    """
    if isinstance(found, Mapping):
        return {filled(key, words): filled(value, words) for key, value in found.items()}
    if isinstance(found, list | tuple):
        return [filled(value, words) for value in found]
    if isinstance(found, str):
        return WORD.sub(lambda word: words[word_of(word)], found)
    return found


def words_for(service: str, color: str, version: str) -> dict[str, str]:
    """
    Return the words of a release.

    :raises DeployError: the version can be no label, which pods have it as
    """
    if not _LABEL.fullmatch(version):
        raise DeployError(
            f"version {version!r} can be no label of a pod",
            service=service,
            part=color,
            next_step="nothing was touched; use at most 63 letters, digits and . _ - in versions",
        )
    return {"SERVICE": service, "COLOR": color, "VERSION": version}
