"""
Builds what is not built yet: ``python -m tools.kubernetes [name or group …]``.

Without a name everything; ``--jobs 1`` and ``nice`` leave a busy machine to others, ``--list`` only says what is there.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence

from tools.kubernetes.build import NO_GO, build, take
from tools.kubernetes.programs import PARTS, Definitions, Program, find_go

GROUPS = sorted({part.group for part in PARTS.values()})


def main(arguments: Sequence[str] | None = None) -> None:
    """Build, or say what is there."""
    parser = argparse.ArgumentParser(prog="python -m tools.kubernetes", description="Build Kubernetes' own programs.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join([*GROUPS, *PARTS])}")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="packages that are compiled at a time")
    parser.add_argument("--list", action="store_true", help="say what is there, build nothing")
    options = parser.parse_args(arguments)
    if unknown := set(options.names) - {*GROUPS, *PARTS}:
        parser.error(f"there is no {', '.join(sorted(unknown))}; there are {', '.join([*GROUPS, *PARTS])}")
    wanted = [part for name, part in PARTS.items() if not options.names or {name, part.group} & set(options.names)]
    for part in wanted:
        print(f"{part.name:24} {part.find() or 'not there' if options.list else _made(part, options.jobs)}", flush=True)


def _made(part: Program | Definitions, jobs: int) -> str:
    go = find_go()
    if go is None:
        raise SystemExit(NO_GO)
    started = time.monotonic()
    new = build(part, go, jobs) if isinstance(part, Program) else take(part, go)
    return f"{time.monotonic() - started:.0f} s" if new else "was there"


if __name__ == "__main__":
    main()
