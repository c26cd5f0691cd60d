"""Hides what looks like a secret in a foreign text: a health answer, a log line."""

from __future__ import annotations

import re
from collections.abc import Iterable

_SHAPES = (
    (re.compile(r"(\w+://[^\s/:@]*:)[^\s/@]+(?=@)"), r"\1***"),  # a user and password in an address
    (re.compile(r"(?i)\b((?:bearer|basic)\s+)[\w.~+/=-]{8,}"), r"\1***"),
    (
        re.compile(
            r"(?i)(\b[\w-]*(?:passw(?:or)?d|passphrase|secret|token|api[_-]?key)[\w-]*[\"']?\s*[=:]\s*[\"']?)[^\s\"',;&}]+"
        ),
        r"\1***",
    ),
)


def without(text: str, secrets: Iterable[str]) -> str:
    """Return a text in which known secrets are ``***``, in the order given: of two, the longer one first."""
    for secret in secrets:
        text = text.replace(secret, "***")
    return text


def masked(text: str, secrets: Iterable[str] = ()) -> str:
    """
    Return a text without the secrets that we know, and without what is written like one.

    :param secrets: known ones, of our own connections
    """
    text = without(text, sorted({secret for secret in secrets if secret}, key=len, reverse=True))
    for shape, shown in _SHAPES:
        text = shape.sub(shown, text)
    return text
