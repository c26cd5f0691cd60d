"""What a deployer's diagnosis of pods means: its lines ``next: <symptom>: <command>`` as codes that people can look up."""

from __future__ import annotations

import re
from collections.abc import Iterator

from bluegreen.core.colors import Color
from bluegreen.release.cause import Cause, expected
from bluegreen.release.facts import Facts

NEXT = re.compile(r"^next: (?P<symptom>[^:]+): (?P<command>.+)$", re.MULTILINE)
CODES = {
    "paused": "deployment-paused",
    "quota exceeded": "quota-exceeded",
    "no pod can be made": "no-pod-made",
    "no node has room for a pod": "no-room",
    "CrashLoopBackOff": "crash-loop",
    "Error": "crash-loop",
    "OOMKilled": "out-of-memory",
    "ImagePullBackOff": "image-not-had",
    "ErrImagePull": "image-not-had",
    "InvalidImageName": "image-not-had",
    "ErrImageNeverPull": "image-not-had",
    "CreateContainerConfigError": "config-not-there",
    "CreateContainerError": "container-not-made",
    "RunContainerError": "container-not-made",
    "runs, but is not ready": "pod-not-ready",
}
"""Symptom in the diagnosis of ``deployers.kube_diagnosis`` -> code in docs/troubleshooting.md."""


def pods_fail(facts: Facts) -> Iterator[Cause]:
    """Pods say themselves what is the matter."""
    for color in (color for color in Color if expected(facts, color)):
        for found in NEXT.finditer(facts.logs.get(color, "")):
            if code := CODES.get(found["symptom"]):
                yield Cause(code, f"pods of {color}: {found['symptom']}", found["command"])
