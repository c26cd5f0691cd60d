"""`python -m demo.load`: a load from the command line, which prints its final snapshot."""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import signal
from collections.abc import Sequence
from pathlib import Path

from demo.load.counts import Snapshot
from demo.load.process import records_path
from demo.load.sender import Load

_SNAPSHOT_S = 0.5


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m demo.load", description=__doc__)
    parser.add_argument("--target", action="append", required=True, metavar="HOST:PORT")
    parser.add_argument("--host", default="localhost", help="the Host header")
    parser.add_argument(
        "--path", action="append", metavar="'METHOD /PATH'", help="each as often as the others; default: GET /"
    )
    parser.add_argument("--header", action="append", default=[], metavar="'NAME: VALUE'")
    parser.add_argument("--connections", type=int, default=50)
    parser.add_argument("--rate", type=float, help="requests per second; default: as fast as answers come")
    parser.add_argument("--timeout", type=float, default=10.0)
    parser.add_argument("--duration", type=float, help="seconds; default: until SIGTERM")
    parser.add_argument("--color-header", default="X-Release-Color")
    parser.add_argument("--version-header", default="X-App-Version")
    parser.add_argument("--stats", type=Path, help="where to write a snapshot each half second")
    return parser


def _load_from(options: argparse.Namespace) -> Load:
    targets = [(host, int(port)) for host, _, port in (target.rpartition(":") for target in options.target)]
    return Load(
        targets=targets,
        host_header=options.host,
        connections=options.connections,
        rate=options.rate,
        paths=[(method, path) for method, path in (one.split(" ", 1) for one in options.path or ["GET /"])],
        timeout_s=options.timeout,
        headers=dict(header.split(": ", 1) for header in options.header),
        color_header=options.color_header,
        version_header=options.version_header,
    )


def _write(stats: Path, load: Load, snapshot: Snapshot) -> None:
    # The records first: a reader of a snapshot finds every request that it counts.
    load.records.append_new_to(records_path(stats))
    fresh = stats.with_suffix(f".{os.getpid()}.tmp")
    fresh.write_text(snapshot.to_json() + "\n")
    fresh.replace(stats)


async def _main(options: argparse.Namespace) -> Snapshot:
    load, stop = _load_from(options), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    running = asyncio.create_task(load.run(options.duration, stop))
    await asyncio.sleep(0)
    while not running.done():
        if options.stats:
            _write(options.stats, load, load.snapshot())
        await asyncio.wait([running], timeout=_SNAPSHOT_S)
    if options.stats:
        _write(options.stats, load, running.result())
    return running.result()


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a load from the command line and print its final snapshot."""
    options = _parser().parse_args(arguments)
    # A full collection would stop the load for some milliseconds and show as the server's latency.
    gc.freeze()
    try:
        import uvloop  # noqa: PLC0415 - faster, where it is installed
    except ImportError:
        final = asyncio.run(_main(options))
    else:
        final = uvloop.run(_main(options))
    print(final.to_json())


if __name__ == "__main__":
    main()
