"""nginx's host program by itself: as a far host runs it, what it makes of file, run time and log."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from bluegreen.core.stamp import Phase, Stamp
from bluegreen.hosts import host_seen
from bluegreen.hosts.host_files import Trouble
from bluegreen.routers import nginx_host, nginx_include
from tests.unit.routers.conftest import far

BACKENDS = {"blue": "shop-blue", "green": "shop-green"}
CONFIG = {"service": "shop", "include": "/etc/nginx/bluegreen/shop.conf", "backends": BACKENDS}
WORDS = {"epoch": "2", "release": "r@1", "step": "s", "phase": "canary", "lease": "-", "why": "-", "at": "-"}


@pytest.mark.nginx
@pytest.mark.haproxy
def test_the_same_file_does_the_same_at_the_far_end(nginx_rig: Any) -> None:
    config = nginx_rig.router().members[0].config
    fields = Stamp(1, "run@1", "plan", Phase.CLAIMED).as_fields() | {"split": "90/10"}
    call = {"do": "swap", "with": {"config": config, "version": ["100/0"], "fields": fields}}
    done = far(call, program=nginx_host)["done"]
    assert (
        done == far({"do": "read", "with": {"config": config}}, program=nginx_host)["done"] == nginx_host.read(config)
    )
    assert (done["fields"], done["settled"]) == (fields, True)
    kind, fact, _ = far(call, program=nginx_host)["trouble"]
    assert (kind, fact) == ("conflict", "expected 100/0, no stamp, found 90/10, epoch 1 (claimed) of run@1")
    assert nginx_rig.probe(0, 5).total() == 5  # so that there is a line to count
    assert far({"do": "count", "with": {"config": config}}, program=nginx_host)["done"]["shop-blue"]["total"] == 2
    assert "upstream shop-blue" in far({"do": "dump", "with": {"config": config}}, program=nginx_host)["done"]["text"]


@pytest.mark.parametrize("share", [0, 1, 50, 99, 100])
def test_what_is_written_is_read(share: int) -> None:
    split = f"{100 - share}/{share}"
    fields = {**WORDS, "split": split, "why": "ü $a; {b} \"c\" 'd' \\ # 5 %\nnext", "step": "$pid; }"}
    assert nginx_include.parse(CONFIG, nginx_include.render(CONFIG, fields)) == {"routed": split, **fields}
    assert nginx_include.parse(CONFIG, nginx_include.render(CONFIG, {"split": split})) == {"routed": split}


@pytest.mark.nginx
@pytest.mark.haproxy
@pytest.mark.parametrize("cookie", ["", "sid"])
def test_nginx_takes_the_longest_and_oddest_words(nginx_rig: Any, cookie: str) -> None:
    node, config = nginx_rig.nodes[0], nginx_rig.router().members[0].config
    odd = "ü$a;{}\"'\\#\n" * 20
    stamp = Stamp(1, odd, odd, Phase.CLAIMED, versions={"blue": odd, "green": odd}, why=odd)
    fields = stamp.as_fields() | {"split": "90/10"}
    node.include.write_text(nginx_include.render({**config, "cookie": cookie}, fields))
    done = subprocess.run([*node.command, "-t"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def words(green: int, epoch: int = 0, stamped: int | None = None) -> dict[str, str]:
    share = green if stamped is None else stamped
    stamp = {**WORDS, "epoch": str(epoch), "split": f"{100 - share}/{share}"} if epoch else {}
    return {"routed": f"{100 - green}/{green}", **stamp}


def running(green: int, epoch: int = 0) -> dict[str, str]:
    return {"split": f"{100 - green}/{green}", "pid": "7", **({"epoch": str(epoch)} if epoch else {})}


@pytest.mark.parametrize(
    ("file", "routed", "share", "epoch"),
    [
        (words(10, 2), running(10, 2), 10, 2),
        (words(10, 2), running(0, 1), 10, 2),  # a write without its reload: the file counts
        (words(40, 2, stamped=10), running(10, 2), 40, 2),  # changed by hand
        (words(0), running(10, 2), 10, 2),  # overwritten by somebody: the stamp lives on at run time
        (words(0, 1), running(10, 2), 10, 2),  # an older file put back
        (None, running(10, 2), 10, 2),  # lost
        (words(40), running(0), 40, 0),  # by hand before the first release: nginx cannot know what it draws
        (words(0), running(0), 0, 0),
    ],
)
def test_which_share_and_stamp_count(file: Any, routed: Any, share: int, epoch: int) -> None:
    split, fields = nginx_host._judge(file, routed)
    assert (split, int(fields.get("epoch", 0))) == (f"{100 - share}/{share}", epoch)


@pytest.mark.parametrize(
    ("block", "words"),
    [
        ("", "no split_clients for $shop_pool"),
        ('split_clients "$request_id" $shop_pool { 0.5% shop-green; * shop-blue; }', "no whole per cent"),
        ('split_clients "$request_id" $shop_pool { 10% other; * shop-blue; }', "`10% other;` is no whole per cent"),
        ("# stamp.epoch=x\nsplit_clients a $shop_pool { * shop-blue; }", "epoch is 'x'"),
    ],
)
def test_garbled_files_are_said_to_be_so(block: str, words: str) -> None:
    with pytest.raises(Trouble) as error:
        nginx_include.parse(CONFIG, block)
    assert words in error.value.fact
    assert error.value.mend


def test_shares_that_a_person_has_written_are_summed() -> None:
    text = (
        "split_clients a $shop_pool { 5% shop-green; 20% shop-blue; # 7% shop-green;\n 15% shop-green; * shop-blue; }"
    )
    assert nginx_include.parse(CONFIG, text) == {"routed": "80/20"}


# Counting


def count(log: Path, inode: int = 0, start: int = 0) -> dict[str, tuple[int, int]]:
    found = host_seen.count_lines(str(log), inode, start, BACKENDS.values())
    assert found is not None
    return {name.removeprefix("shop-"): (one["requests"], one["errors"]) for name, one in found.items()}


def test_lines_are_counted_from_a_place_on_and_whole(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("shop-blue 200 0.001\nshop-green 500 0.004\n")
    inode, end = host_seen.log_end(str(log))
    assert count(log) == {"blue": (1, 0), "green": (1, 1)}
    with log.open("a") as file:
        file.write("shop-blue 502 0.000\nshop-green 404 0.002\n - 400 0.000\nshop-blue 20")
    assert count(log) == {"blue": (2, 1), "green": (2, 1)}
    assert count(log, inode, end) == {"blue": (1, 1), "green": (1, 0)}
    with log.open("a") as file:
        file.write("0 0.009\n")
    assert count(log, inode, end) == {"blue": (2, 1), "green": (1, 0)}
    found = host_seen.count_lines(str(log), inode, end, BACKENDS.values())
    assert found is not None
    assert found["shop-blue"]["latency_ms"] == pytest.approx(4.5)


def test_what_was_counted_is_not_read_again(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"shop-blue 200 0.001\n" * 10)
    assert count(log)["blue"] == (10, 0)
    log.write_bytes(b"shop-blue 500 0.001\n" * 10)  # the same file: who reads it again sees errors
    with log.open("a") as file:
        file.write("shop-blue 200 0.001\n")
    assert count(log)["blue"] == (11, 0)


@pytest.mark.parametrize("how", ["truncate", "rotate"])
def test_a_log_that_begins_anew_is_counted_from_its_begin(tmp_path: Path, how: str) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"shop-blue 200 0.001\n" * 10)
    inode, end = host_seen.log_end(str(log))
    assert count(log, inode, 0)["blue"] == (10, 0)
    if how == "rotate":
        log.rename(tmp_path / "log.1")
    log.write_bytes(b"shop-blue 200 0.001\n" * 3)
    assert count(log, inode, 0)["blue"] == (3, 0)
    assert count(log, inode, end)["blue"] == (3, 0)


def test_a_log_longer_than_what_is_read_at_once(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(host_seen, "_CHUNK", 33)  # in the middle of lines
    log = tmp_path / "log"
    log.write_bytes(b"shop-blue 200 0.001\nshop-green 503 0.001\n" * 100)
    assert count(log) == {"blue": (100, 0), "green": (100, 100)}


def test_no_log_is_no_count(tmp_path: Path) -> None:
    assert host_seen.count_lines(str(tmp_path / "none"), 0, 0, ["shop-blue"]) is None


@pytest.mark.parametrize(
    ("address", "readable"),
    [
        ("0100007F", "127.0.0.1"),
        ("00000000000000000000000001000000", "::1"),
        ("B80D0120000000000000000001000000", "2001:db8::1"),
    ],
)
def test_the_kernels_addresses_are_read(address: str, readable: str) -> None:
    family = host_seen.socket.AF_INET if len(address) == 8 else host_seen.socket.AF_INET6
    assert host_seen._readable(address, family) == readable


def test_processes_that_cannot_be_seen_have_an_unknown_number_of_connections() -> None:
    assert host_seen.siblings(1, "nginx: worker process", "shutting down") is None
    assert host_seen.connections([1], ["http://no-such-name.invalid:80"]) is None
