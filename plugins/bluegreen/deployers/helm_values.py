"""What a chart is given of the service file, and how a password that was given may come back in Helm's own words."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import yaml

LEAST = 4
"""Characters of a part that is hidden by itself: a shorter one stands in too much else."""
_SPECIAL = r"\[\]{},:#&*!|>'\"%@`\\"
"""What YAML may take for more than a text."""
_PART = re.compile(rf"[^\s{_SPECIAL}]{{{LEAST},}}")


def nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values by their dotted paths as Helm has them."""
    whole: dict[str, Any] = {}
    for path, value in values.items():
        *folders, last = path.split(".")
        here = whole
        for folder in folders:
            here = here.setdefault(folder, {})
        here[last] = value
    return whole


def parts(passwords: Iterable[str]) -> Iterator[str]:
    """
    Yield what a chart that gives a password without quotes makes of it: YAML reads a number, a list or keys then.

    Helm's error shows that in its own way, ``{1, "hunter2", "x"}``: so its longer words are hidden, too.
    """
    for password in passwords:
        if re.search(f"[{_SPECIAL}]", password):
            yield from _PART.findall(password)
        try:
            found = yaml.safe_load(password)
        except (yaml.YAMLError, ValueError, RecursionError):
            continue
        if isinstance(found, int | float) and len(str(found)) >= LEAST:
            yield str(found)
