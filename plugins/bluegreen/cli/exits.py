"""Exit codes, and what is said when something cannot be done."""

from __future__ import annotations

import sys

from bluegreen.core.errors import (
    BlueGreenError,
    CatalogError,
    MigrationRefused,
    ReleaseRefused,
    RouterUnreachable,
    SecretMissing,
)

OK, WRONG, USAGE, UNREACHABLE = range(4)

EXIT_CODES = "Exit: 0 ok, 1 amiss, 2 wrong input, 3 router unreachable; the worst of all."


def code_of(error: BaseException) -> int:
    """Return the exit code of an error."""
    if isinstance(error, RouterUnreachable):
        return UNREACHABLE
    wrong_input = isinstance(error, (CatalogError, MigrationRefused, ReleaseRefused, SecretMissing)) or _usage(error)
    return USAGE if wrong_input or _of_a_file(error) else WRONG


def complain(error: BaseException) -> int:
    """Say what is wrong, one line a problem, and return the exit code."""
    problems = error.problems if isinstance(error, CatalogError) else (error,)
    for problem in problems:
        warn(_text(problem))
    return code_of(error)


def warn(text: str) -> None:
    """Print one line for people on stderr."""
    print(f"bluegreen: {' '.join(text.split())}", file=sys.stderr, flush=True)


def _usage(error: BaseException) -> bool:
    """Tell whether typer found the command line wrong; its base class has no public name."""
    return hasattr(error, "format_message")


def _of_a_file(error: BaseException) -> bool:
    return isinstance(error, OSError) and bool(error.filename)


def _text(error: BaseException) -> str:
    if isinstance(error, BlueGreenError):
        return str(error)
    if _usage(error):
        ctx = getattr(error, "ctx", None)
        verb = ctx.command_path if ctx else "bluegreen"
        said = error.format_message().replace("Value error, ", "").rstrip(".")  # type: ignore[attr-defined]
        return f"{said}; see {verb} --help"
    if isinstance(error, OSError) and _of_a_file(error):
        return f"{error.filename}: {(error.strerror or '').lower()}"
    return f"unexpected {type(error).__name__}: {error}; bluegreen --debug shows where"
