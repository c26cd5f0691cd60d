"""`make bench`: run the benches that are asked for, all by default, and write a table and JSON of each."""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import sys
import tempfile
import time
import traceback
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.machine import facts
from benchmarks.tables import facts as in_words

BENCHES = {
    "switch": "benchmarks.switch",
    "release": "benchmarks.release",
    "detection": "benchmarks.detection",
    "migrations": "benchmarks.migrations",
    "watches": "benchmarks.watches",
    "clusters": "benchmarks.clusters",
    "soak": "benchmarks.soak",
}
"""Name -> module with `measure(workdir, say, quick=...) -> result` and `report(result) -> Markdown`."""
BY_NAME_ONLY = {"soak", "clusters"}
"""Not run by default: `make soak`, and what needs `make kubernetes` first."""

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
QUICK_RESULTS = ROOT / "build" / "bench"


def main() -> None:
    """Run; the exit code says whether every bench came to its end."""
    options = _options()
    # A SIGTERM ends it as Ctrl-C does: through every `finally`.
    signal.signal(signal.SIGTERM, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
    out = options.out or (QUICK_RESULTS if options.quick else RESULTS)
    failed = []
    for name in options.benches or sorted(set(BENCHES) - BY_NAME_ONLY, key=list(BENCHES).index):
        try:
            _run(name, out, quick=options.quick)
        except Exception:  # noqa: BLE001 - the next bench is worth running; the last result stays what it was
            traceback.print_exc()
            failed.append(name)
        except KeyboardInterrupt:
            sys.exit("interrupted: everything was stopped, this bench wrote nothing")
    if failed:
        sys.exit(f"did not come to an end: {', '.join(failed)}")


def _run(name: str, out: Path, *, quick: bool) -> None:
    bench = import_module(BENCHES[name])
    # Not below the clone, which may lie too deep for the path of a unix socket.
    workdir = Path(tempfile.mkdtemp(prefix=f"bench-{name}-"))
    began, clock = datetime.now(UTC), time.monotonic()

    def say(line: str) -> None:
        print(f"[{name} {time.monotonic() - clock:5.0f} s] {line}", flush=True)

    try:
        found: dict[str, Any] = bench.measure(workdir, say, quick=quick)
    finally:
        shutil.rmtree(workdir, ignore_errors=True)
    result = found | {
        "size": "quick" if quick else "full",
        "began": began.isoformat(timespec="seconds"),
        "seconds": round(time.monotonic() - clock, 1),
        "machine": facts(),
    }
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{name}.json").write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n")
    text = f"# {name}\n\n{bench.report(result)}\n{_where(result)}\n"
    (out / f"{name}.md").write_text(text)
    print(f"\n{text}\n{out / name}.json", flush=True)


def _where(result: dict[str, Any]) -> str:
    size = "" if result["size"] == "full" else "A quick run: too small to say much. "
    return f"{size}Measured {result['began']} in {result['seconds']:.0f} s on: {in_words(result['machine'])}."


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench ARGS=...", description=__doc__)
    parser.add_argument(
        "benches",
        nargs="*",
        metavar="BENCH",
        help=f"any of: {', '.join(BENCHES)}; all but {', '.join(BY_NAME_ONLY)} by default",
    )
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that it works; into build/bench/")
    parser.add_argument("--out", type=Path, help="folder for the results")
    options = parser.parse_args()
    if unknown := set(options.benches) - set(BENCHES):
        parser.error(f"no such bench: {', '.join(sorted(unknown))}; there are {', '.join(BENCHES)}")
    return options


if __name__ == "__main__":
    main()
