"""squawk as a second witness: one process for all files; what it sees and we do not is a finding, too."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bluegreen.core.errors import MigrationRefused

_VERSION = "15.0"  # a bare "11" or "15" is taken wrongly by squawk's rules of defaults
_TIMEOUT = 120.0
# Its rules, as ours are called. What is not here is style, or known to us exactly: see docs/decisions/0015.
WITNESS: Mapping[str, str] = {
    "adding-required-field": "add-required-column",
    "ban-concurrent-index-creation-in-transaction": "concurrently-in-transaction",
    "ban-drop-column": "drop-column",
    "ban-drop-constraint": "drop-constraint",
    "ban-drop-database": "drop-database",
    "ban-drop-default": "drop-default",
    "ban-drop-domain": "drop-type",
    "ban-drop-extension": "drop-extension",
    "ban-drop-function": "drop-function",
    "ban-drop-generated-expression": "drop-expression",
    "ban-drop-not-null": "drop-not-null",
    "ban-drop-schema": "drop-schema",
    "ban-drop-sequence": "drop-sequence",
    "ban-drop-table": "drop-table",
    "ban-drop-type": "drop-type",
    "ban-drop-view": "drop-view",
    "ban-set-schema": "set-schema",
    "ban-truncate-cascade": "truncate",
    "disallowed-unique-constraint": "add-unique",
    "identifier-too-long": "identifier-too-long",
    "renaming-column": "rename-column",
    "renaming-object": "rename-object",
    "renaming-table": "rename-table",
    "require-concurrent-index-creation": "create-index",
    "require-concurrent-index-deletion": "drop-index",
    "require-concurrent-partition-detach": "detach-partition",
    "require-concurrent-reindex": "reindex",
}
# Told by us from more than squawk has: the phase, earlier files, a type's width, a runner that sets timeouts.
OURS = (
    "adding-field-with-default", "adding-foreign-key-constraint", "adding-not-nullable-field",
    "adding-serial-primary-key-field", "ban-alter-identity", "ban-alter-domain-with-add-constraint", "ban-uncommitted-transaction",
    "changing-column-type", "constraint-missing-not-valid", "require-lock-timeout", "require-statement-timeout",
    "require-timeout-settings", "transaction-nesting",
)  # fmt: skip
STYLE = (
    "ban-char-field", "ban-create-domain-with-constraint", "prefer-bigint-over-int", "prefer-bigint-over-smallint",
    "prefer-identity", "prefer-repack", "prefer-robust-stmts", "prefer-text-field", "prefer-timestamp-tz",
    "require-enum-value-ordering", "require-table-schema", "unused-ignore",
)  # fmt: skip


def seen(texts: Sequence[str]) -> list[list[tuple[int, str, str]]]:
    """
    Return of each text what squawk says: index of the character, our name of the rule, its words.

    :raises MigrationRefused: squawk is not there, or does not do what it should
    """
    found: list[list[tuple[int, str, str]]] = [[] for _ in texts]
    if not texts:
        return found
    with tempfile.TemporaryDirectory(prefix="bluegreen-lint-") as folder:
        for number, text in enumerate(texts):
            (Path(folder) / f"{number}.sql").write_bytes(text.encode(errors="replace"))
        for one in _run(Path(folder), len(texts)):
            number = int(Path(one["file"]).stem)
            if rule := WITNESS.get(one["rule_name"]):
                found[number].append((_index(texts[number], one["line"], one["column"]), rule, one["message"]))
    return found


def _run(folder: Path, count: int) -> Sequence[Mapping[str, Any]]:
    (folder / "squawk.toml").touch()  # its own, or it looks for one in every folder above
    words = ["--reporter", "json", "--pg-version", _VERSION, "--config", "squawk.toml"]
    words += [f"{number}.sql" for number in range(count)]
    try:
        done = subprocess.run(
            [_program(), *words], cwd=folder, capture_output=True, text=True, check=False, timeout=_TIMEOUT
        )
        if done.returncode not in (0, 1):
            return _failed(done.stderr)
        found: Sequence[Mapping[str, Any]] = json.loads(done.stdout or "[]")
    except (OSError, subprocess.TimeoutExpired, ValueError) as error:
        return _failed(type(error).__name__)
    return found


def _program() -> str:
    """Return squawk beside our Python, where its wheel puts it, or on PATH."""
    beside = Path(sys.executable).with_name("squawk")
    return str(beside) if beside.exists() else shutil.which("squawk") or "squawk"


def _failed(said: str) -> Sequence[Mapping[str, Any]]:
    raise MigrationRefused(
        f"squawk could not look at the migrations: {' '.join(said.split())[:300]}",
        part="migrations",
        next_step="is the package squawk-cli installed (extra: migrations)? or find the file it stumbles over",
    )


def _index(text: str, line: int, column: int) -> int:
    """Return the index of a character; squawk counts lines from 0, and columns in bytes."""
    lines = text.split("\n")
    before = sum(len(one) + 1 for one in lines[:line])
    here = lines[line] if line < len(lines) else ""
    return before + len(here.encode(errors="replace")[:column].decode(errors="ignore"))
