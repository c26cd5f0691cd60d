"""
What nginx's own program is run for: to test a configuration and to show it whole.

Part of ``nginx_host``, so standard library of Python 3.9 only, and of ours no more than ``hosts.host_*``.
"""

from __future__ import annotations

import contextlib
import re
import subprocess
import tempfile
from pathlib import Path

from bluegreen.hosts import host_files
from bluegreen.hosts.host_files import Trouble
from bluegreen.routers.nginx_include import INCLUDE, INITIAL, Config, parse

COMMAND_WITHIN = 30.0
_BROKEN = re.compile(
    r"\[(?:emerg|alert|crit|error)\] (?:\d+#\d+: )?(?P<words>.*?)(?: in (?P<file>/\S+):(?P<line>\d+))?$"
)


def dump(config: Config) -> dict[str, str]:
    """
    Return the whole configuration as nginx reads it now.

    :returns: version, text (of ``nginx -T``, empty when it cannot be had), broken (nginx's own words), lost (why our
        file has no meaning)
    """
    lost, path = "", Path(config["include"]).resolve()
    try:
        parse(config, host_files.load(path, INCLUDE, INITIAL))
    except Trouble as trouble:
        lost = trouble.fact
    version = _run([*config["command"], "-v"]).stderr
    done = _run([*config["command"], "-T"])
    broken = _broken(config, done.stderr).fact if done.returncode else ""
    main = re.search(r"configuration file (\S+) test failed", done.stderr)
    if main and 'no "events" section' in broken:  # all the rest was read: a file that was copied out of a guide
        with tempfile.NamedTemporaryFile("w", suffix=".conf") as whole:
            print(f"events {{ }}\ninclude {main[1]};", file=whole, flush=True)
            done = _run([*config["command"], "-T", "-c", whole.name])
    text = "" if done.returncode else done.stdout
    return {"version": version.strip(), "text": text, "broken": broken, "lost": lost}


def require(config: Config, command: list[str]) -> None:
    """
    Run a command of nginx's.

    :raises Trouble: it did not do it, with nginx's own words
    """
    done = _run(command)
    if done.returncode:
        raise _broken(config, done.stderr or done.stdout)


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    words = " ".join(command)
    try:
        return subprocess.run(
            command, capture_output=True, check=False, text=True, timeout=COMMAND_WITHIN, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired as error:
        mend = "see what holds it up: an upstream's name that does not resolve?"
        raise Trouble("refused", f"`{words}` did not end within {COMMAND_WITHIN:g} s", mend) from error
    except OSError as error:
        mend = "name nginx's program and its options as `command` of the node"
        raise Trouble("refused", f"`{words}` cannot be run: {error.strerror}", mend) from error


def _broken(config: Config, said: str) -> Trouble:
    found = next(filter(None, map(_BROKEN.search, said.splitlines())), None)
    if not found:
        return Trouble("refused", f"nginx said {said.strip()[-300:]!r}", "see that this user may run it")
    words = found["words"]
    if not found["file"]:
        return Trouble(
            "refused", f"nginx said: {words}", "mend it, or let a user run it who may: `command` of the node"
        )
    where = f"{found['file']}:{found['line']}"
    with contextlib.suppress(OSError, IndexError):
        words += f": `{Path(found['file']).read_text(errors='replace').splitlines()[int(found['line']) - 1].strip()}`"
    if Path(found["file"]).resolve() == Path(config["include"]).resolve():
        return Trouble("refused", f"nginx does not take our {INCLUDE}: {where}: {words}", "see `bluegreen check`")
    fact = f"nginx configuration broken by someone else: {where}: {words}"
    return Trouble("refused", fact, "let who changed it mend it; until then nginx takes no reload")
