"""
The text of the include file: what nginx routes by, the stamp as comments, and where the counters begin.

Part of ``nginx_host``, so standard library of Python 3.9 only, and of ours no more than ``hosts.host_*``.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote, unquote, urlencode, urlsplit

from bluegreen.hosts import host_stamp
from bluegreen.hosts.host_files import Trouble

Config = dict[str, Any]
Fields = dict[str, str]

INCLUDE = "include file"
INITIAL = "write it anew, as `bluegreen lines` prints it"
MEND_STAMP = "mend it; when no release is under way, take its `# stamp.` lines out"
QUIET = ("lease", "why", "at")
"""Words that a renewal may change: nginx need not know them, so that they cost no reload."""
_PLAIN = "@:/+~,!()[] "  # what else of ASCII may stand in a stamp's word as it is


def render(config: Config, fields: Fields, mark: tuple[int, int] = (0, 0)) -> str:
    """Return the include file; ``mark`` is the log's inode and the byte where the counts begin."""
    name, green = config["service"].replace("-", "_"), fields["split"].partition("/")[2]
    stamp = {key: word for key, word in fields.items() if "epoch" in fields}
    shares = [f"{green}% {config['backends']['green']};"] if green not in ("0", "100") else []
    shares += [f"* {config['backends']['green' if green == '100' else 'blue']};"]
    known = {"split": fields["split"], **{key: word for key, word in stamp.items() if key not in ("why", "at")}}
    lines = [
        f"# The split of {config['service']} and its stamp, written whole by Airflow Blue-Green.",
        *(f"# stamp.{key}={quote(word, _PLAIN)}" for key, word in stamp.items()),
        "# log {}:{}".format(*mark),
    ]
    key = "$request_id"
    if config.get("cookie"):  # a client that has the cookie keeps its color while green's share grows
        key = f"${name}_key"
        lines += _block(
            f"map $cookie_{config['cookie']} {key}", [f"default $cookie_{config['cookie']};", '"" $request_id;']
        )
    lines += _block(f'split_clients "{key}" ${name}_pool', shares)
    # An answer that no server has given has no color: what nginx says in the servers' place proves nothing.
    colors = [f'"~^{_literal(backend)} .*[0-9]$" {color};' for color, backend in config["backends"].items()]
    lines += _block(f'map "${name}_pool $upstream_header_time" ${name}_color', ['default "";', *colors])
    lines += _block(f'map "" ${name}_status', [f'default "pid=$pid&{urlencode(known)}";'])
    lines.append(f'log_format bluegreen_{name} "${name}_pool $status $request_time";')
    return "".join(f"{line}\n" for line in lines)


def parse(config: Config, text: str) -> Fields:
    """Return the split that nginx will route by after a reload as ``routed``, and the stamp's words."""
    where = f"the {INCLUDE} {config['include']}"
    name = config["service"].replace("-", "_")
    fields = {key: unquote(word) for key, word in re.findall(r"^# stamp\.(\w+)=(.*)$", text, re.MULTILINE)}
    host_stamp.require_words(fields, f"the stamp of {where}", MEND_STAMP)
    bare = re.sub(r"#.*", "", text)
    block = re.search(rf"split_clients\s+\S+\s+\${name}_pool\s*\{{([^}}]*)\}}", bare)
    if not block:
        raise Trouble("refused", f"{where} is garbled: it has no split_clients for ${name}_pool", INITIAL)
    green, rest = 0, 100
    for line in filter(None, (" ".join(part.split()) for part in block[1].split(";"))):
        found = re.fullmatch(r"(?:(\d{1,3})%|\*) (\S+)", line)
        if not found or found[2] not in config["backends"].values():
            fact = f"{where} is garbled: `{line};` is no whole per cent of {' or '.join(config['backends'].values())}"
            raise Trouble("refused", fact, INITIAL)
        share = int(found[1]) if found[1] else rest
        green, rest = green + (share if found[2] == config["backends"]["green"] else 0), rest - share
    return {"routed": f"{100 - green}/{green}", **fields}


def status_lines(config: Config) -> str:
    """Say what must stand in nginx's configuration for its run time to be read."""
    url, name = urlsplit(config["status"]), config["service"].replace("-", "_")
    return (
        f"write `include {config['include']};` in http {{ }} and `location = {url.path or '/'} "
        f"{{ return 200 ${name}_status; }}` in the server that listens on {url.netloc}, then reload nginx"
    )


def loud(fields: Fields) -> Fields:
    """Return the words that nginx must run by."""
    return {key: word for key, word in fields.items() if key not in QUIET}


def mark_in(text: str) -> tuple[int, int]:
    """Return the log's inode and the byte where the counts begin; zeros without them."""
    found = re.search(r"^# log (\d+):(\d+)$", text, re.MULTILINE)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def _block(head: str, lines: list[str]) -> list[str]:
    return [f"{head} {{", *(f"    {line}" for line in lines), "}"]


def _literal(name: str) -> str:
    return name.replace(".", "\\.")  # all that a name may hold and a pattern would read otherwise
