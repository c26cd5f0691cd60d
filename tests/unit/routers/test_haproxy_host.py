"""The host program by itself: as a far host runs it, and what it makes of file and run time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bluegreen.core.colors import Color
from bluegreen.core.stamp import Phase, Stamp
from bluegreen.routers import haproxy_host
from demo.processes import wait_until
from tests.unit.routers.conftest import far, router_of


@pytest.mark.haproxy
def test_the_same_file_does_the_same_at_the_far_end(rig: Any) -> None:
    config = rig.router().members[0].config
    wait_until(lambda: haproxy_host.stat(config).count(",UP,") == 6, 5, "both backends' servers up, no check half-way")
    fields = Stamp(1, "run@1", "plan", Phase.CLAIMED).as_fields() | {"split": "100/0"}
    done = far({"do": "swap", "with": {"config": config, "version": ["100/0"], "fields": fields}})["done"]
    assert done == far({"do": "read", "with": {"config": config}})["done"] == haproxy_host.read(config)
    assert (done["fields"], done["settled"]) == (fields, True)
    assert far({"do": "make_ready", "with": {"config": config, "backend": "shop-blue"}}) == {"done": []}
    kind, fact, _ = far({"do": "swap", "with": {"config": config, "version": ["100/0"], "fields": fields}})["trouble"]
    assert (kind, fact) == ("conflict", "expected 100/0, no stamp, found 100/0, epoch 1 (claimed) of run@1")


OTHERS = "".join(f"backend other{n}\n    server one 127.0.0.1:1\n" for n in range(200))


@pytest.mark.haproxy
def test_one_service_is_asked_for_among_hundreds(a_node: Callable[..., Any]) -> None:
    node = a_node(extra_sections=OTHERS).start()
    config = router_of(node).members[0].config
    said = haproxy_host.stat(config)
    assert haproxy_host.pools(said).keys() == {"shop-blue", "shop-green"}
    assert len(said) < len(node.command("show stat")) / 20
    assert haproxy_host.stat(config | {"backends": ["other7"]}).count("\nother7,") == 2  # the backend and its server


@pytest.mark.haproxy
def test_a_frontend_with_a_backends_name_hides_no_counts(a_node: Callable[..., Any]) -> None:
    node = a_node()
    alike = "frontend shop-blue\n    bind abns@bluegreen-alike\n"
    node.config_text = node.render().replace("frontend shop\n", f"{alike}frontend shop\n")
    router = router_of(node.start())
    assert "\nshop-blue," not in node.command("show stat shop-blue 6 -1")  # as HAProxy takes the first of that name
    assert asyncio.run(router.counters())["odd"][Color.BLUE].total == 2
    assert router.read().nodes[0].health[Color.BLUE].total == 2


@pytest.mark.haproxy
def test_an_unknown_backend_is_told_with_all_that_there_are(a_node: Callable[..., Any]) -> None:
    config = router_of(a_node().start()).members[0].config | {"backends": ["shop-blue", "nothing"]}
    assert haproxy_host.pools(haproxy_host.stat(config)).keys() == {"shop-blue", "shop-green"}


def entries(green: int, epoch: int = 0, stamped: int | None = None) -> dict[str, str]:
    if not epoch:
        return {"green": str(green)}
    share = green if stamped is None else stamped
    stamp = {"epoch": epoch, "release": "r@1", "step": "s", "phase": "canary", "split": f"{100 - share}/{share}"}
    return {"green": str(green), **{f"stamp.{name}={word}": "0" for name, word in stamp.items()}}


@pytest.mark.parametrize(
    ("file", "routed", "share", "epoch"),
    [
        (entries(10, 2), entries(10, 2), 10, 2),
        (entries(10, 2), entries(0, 1), 10, 2),  # a write that did not end: the file counts
        (entries(0, 3), entries(10, 2), 0, 3),
        (entries(10, 2), {}, 10, 2),
        (entries(10, 2), entries(50, 2, stamped=10), 50, 2),  # run time changed by hand
        (entries(40, 2, stamped=10), entries(10, 2), 40, 2),  # the file changed by hand
        (entries(40, 2, stamped=10), entries(40, 2, stamped=10), 40, 2),  # and reloaded
        (entries(0), entries(10, 2), 0, 2),  # the file overwritten: the stamp lives on at run time
        (entries(10, 2), entries(0, 3), 0, 3),  # restored on a disk that could not be written
        (None, entries(10, 2), 10, 2),  # the file lost
        (entries(0), entries(100), 100, 0),  # no release yet: what is routed
        (entries(100), entries(0), 0, 0),
        (entries(0), {}, 0, 0),
        (entries(0), {"green": "300"}, 100, 0),
        (entries(0), {"green": "-5"}, 0, 0),
    ],
)
def test_which_share_and_stamp_count(file: Any, routed: Any, share: int, epoch: int) -> None:
    found, fields = haproxy_host._judge(file, routed)
    assert (found, int(fields.get("epoch", 0))) == (share, epoch)


def test_every_wait_is_bounded(tmp_path: Path) -> None:
    config = {"socket": str(tmp_path / "none"), "map": "x", "backends": [], "timeout": 0.1}
    with pytest.raises(haproxy_host.Trouble, match="does not answer: No such file") as error:
        haproxy_host.ask(config, "show info")
    assert error.value.kind == "unreachable"
