"""Status, check, restore, guard and adopt over routers in memory."""

import json
from datetime import timedelta

import pytest
import yaml

from bluegreen.core.colors import Color, Split
from bluegreen.core.errors import DeployError, RouterUnreachable
from bluegreen.core.stamp import Phase, Stamp
from tests.rigs.deploy_targets import free_port
from tests.rigs.prometheus import BINARY, PrometheusRig


def stamp(world, phase, *, split, epoch=7, lease=60, nodes=None, **more):
    """Let the nodes bear a stamp."""
    until = world.time + timedelta(seconds=lease) if phase.transitional else None
    mark = Stamp(
        epoch,
        "manual__2026-11-23T12:00@5",
        str(phase),
        phase,
        more.pop("back_to", Color.BLUE),
        more.pop("versions", {Color.BLUE: "1.0", Color.GREEN: "2.0"}),
        lease=until,
        at=world.time,
        why=more.pop("why", "canary of 2.0"),
    )
    for node in nodes or world.nodes:
        node.split, node.stamp, node.stamped_split = Split.parse(split), mark, Split.parse(split)


def at_rest(world):
    stamp(world, Phase.SETTLED, split="100/0")


def test_status_of_a_service_at_rest(add, run):
    at_rest(add())
    found = run("status", "shop")
    assert (found.code, found.err) == (0, "")
    assert found.out == (
        "shop: all traffic on blue\n"
        "\n"
        "  phase     settled (epoch 7, step settled)\n"
        "  release   manual__2026-11-23T12:00@5\n"
        "  way back  to blue (1.0), kept until 2026-11-24 12:00:00 UTC\n"
        "  lease     -\n"
        "  since     2026-11-23 12:00:00 UTC\n"
        "  why       canary of 2.0\n"
        "\n"
        "  COLOR  SHARE  UP   HEALTHY  REPORTS  STAMPED\n"
        "  blue   100 %  2/2  2/2      1        1.0\n"
        "  green  0 %    2/2  2/2      0        2.0\n"
        "\n"
        "  NODE   BLUE/GREEN  EPOCH  PHASE    STATE\n"
        "  one    100/0       7      settled  ok\n"
        "  two    100/0       7      settled  ok\n"
        "  three  100/0       7      settled  ok\n"
    )


def test_status_says_who_is_asked_and_until_when(add, run):
    world = add()
    stamp(world, Phase.HELD, split="90/10", lease=1860, why="10 % for 2 on green; asked until 12:30:00 UTC: bob")
    found = run("status", "shop")
    assert "! held: 10 % for 2 on green; asked until 12:30:00 UTC: bob; lease 1860 s left" in found.out
    assert found.code == 1


def test_status_tells_everything_that_is_not_as_it_should_be(add, run):
    world = add()
    stamp(world, Phase.CANARY, split="90/10", lease=42)
    stamp(world, Phase.CLAIMED, split="100/0", epoch=6, nodes=world.nodes[1:2])
    world.nodes[0].by_hand(Split(50, 50))
    world.nodes[2].reachable = False
    world.nodes[2].name = "a-node-of-a-long-name"
    stamp(world, Phase.CANARY, split="90/10", lease=42, nodes=world.nodes[:1])
    world.nodes[0].by_hand(Split(50, 50))
    found = run("status", "shop")
    assert found.code == 1
    assert found.out.splitlines()[0] == "shop: traffic is split, blue/green 90/10"
    assert "  lease     42 s left\n" in found.out
    assert found.out[found.out.index("! ") :] == (
        "! a-node-of-a-long-name unreachable: does not answer; bring it back\n"
        "! two lags at epoch 6, the others are at 7\n"
        "! one was changed by hand: routes blue/green 50/50, its stamp says 90/10\n"
        "! a release is under way: canary, lease 42 s left\n"
    )
    assert max(map(len, found.out.splitlines())) <= 80


def test_a_node_that_was_changed_by_hand_is_told_once(add, run):
    world = add()
    at_rest(world)
    stamp(world, Phase.SETTLED, split="100/0", epoch=6, nodes=world.nodes[:1])
    world.nodes[0].by_hand(Split(50, 50))
    out = run("status", "shop").out
    assert out[out.index("! ") :] == "! one was changed by hand: routes blue/green 50/50, its stamp says 100/0\n"


def test_status_of_a_lease_that_is_out(add, run):
    world = add()
    stamp(world, Phase.SWITCHED, split="0/100", lease=-7)
    assert "lease     out since 7 s" in run("status", "shop").out


def test_status_of_traffic_without_a_stamp(add, run):
    add()
    found = run("status", "shop")
    assert found.code == 1
    assert "! no stamp, the traffic is nobody's: bluegreen adopt shop" in found.out


@pytest.mark.parametrize(
    ("break_it", "fault"),
    [
        (lambda w: setattr(w.nodes[0], "in_force", False), "! one has not put epoch 7 in force"),
        (lambda w: vars(w.nodes[0]).update(stamp=None, stamped_split=None), "! one was changed by hand: routes"),
        (lambda w: w.serve(Color.BLUE, 0), "! blue has all traffic, and no server that is up"),
        (lambda w: stamp(w, Phase.STRANDED, split="100/0"), "! stranded: the way back does not serve"),
        (lambda w: setattr(w.nodes[0], "reachable", False), "! one unreachable: does not answer"),
    ],
)
def test_status_exits_1_for_each_fault(add, run, break_it, fault):
    world = add()
    at_rest(world)
    break_it(world)
    found = run("status", "shop")
    assert found.code == 1
    assert fault in found.out


def test_status_of_a_router_that_nobody_reaches(add, run):
    for node in add().nodes:
        node.reachable = False
    found = run("status", "shop")
    assert found.code == 3
    assert found.out.startswith("shop: no node answers")
    assert "! three unreachable: does not answer" in found.out


def test_status_of_all_is_one_line_each_and_exits_with_the_worst(add, run, worlds, folder):
    at_rest(add("cart"))
    stamp(add("shop"), Phase.HELD, split="90/10", lease=1700)
    add("sock")
    worlds["sock"] = RouterUnreachable("no route to host " * 9, service="sock", part="lb1")
    (folder / "torn.yaml").write_text("")
    found = run("status")
    lines = found.out.splitlines()
    assert lines[0] == "SERVICE  LIVE   BLUE/GREEN  PHASE    LEASE        NOTE"
    assert lines[1] == "cart     blue   100/0       settled  -            ok"
    assert lines[2].startswith("shop     split  90/10       held     1700 s left  held: canary of 2.0; lease 17…")
    assert lines[3].startswith("sock     -      -           -        -            sock: lb1: no route to host")
    assert max(map(len, lines)) <= 80
    assert found.err.startswith(f"bluegreen: {folder}/torn.yaml: the file is empty")
    assert found.code == 3


def test_status_as_json(add, run, worlds):
    at_rest(add("cart"))
    add("sock")
    worlds["sock"] = RouterUnreachable("no route", service="sock")
    found = run("status", "--json")
    cart, sock = json.loads(found.out)
    assert (cart["live"], cart["split"], cart["stamp"]["epoch"], cart["faults"]) == ("blue", "100/0", "7", [])
    assert cart["deployed"]["blue"] == {"version": "1", "ready": 2, "total": 2}
    assert sock == {"service": "sock", "error": "sock: no route"}


def test_status_without_any_service(run, folder):
    found = run("status")
    assert (found.code, found.err) == (2, f"bluegreen: {folder}: no service files; bluegreen init makes one\n")


def test_a_name_that_is_not_there(add, run, folder):
    add()
    for verb in ("status", "check", "guard"):
        found = run(verb, "shpo")
        assert (found.code, found.err) == (
            2,
            f"bluegreen: {folder}: no service 'shpo'; did you mean 'shop'? known: shop\n",
        )


def test_restore_puts_the_traffic_back(add, run):
    world = add()
    stamp(world, Phase.CANARY, split="90/10")
    found = run("restore", "shop", "--reason", "checkout is broken")
    assert found.code == 0
    assert found.out.startswith("shop: all traffic on blue\nrestored: blue/green 100/0")
    assert world.splits() == {"100/0"}
    assert world.nodes[0].stamp.why == "bluegreen restore by me@here: checkout is broken"


def test_restore_leaves_a_settled_release_and_says_so(add, run):
    world = add()
    stamp(world, Phase.SETTLED, split="0/100")
    found = run("restore", "shop", "--reason", "x")
    assert found.code == 1
    assert "is settled; to go back start" in found.out
    assert world.splits() == {"0/100"}


def test_restore_whose_roles_are_astray_is_not_all_well(add, run):
    world = add()
    stamp(world, Phase.SWITCHED, split="0/100")
    world.role_breaks = ("start", DeployError("does not start", part="worker on blue"))
    found = run("restore", "shop", "--reason", "x")
    assert (found.code, world.splits()) == (1, {"100/0"})
    assert "worker on blue: does not start" in " ".join(found.out.split())


def test_restore_with_a_straggler_is_not_all_well(add, run):
    world = add()
    stamp(world, Phase.CANARY, split="90/10")
    world.nodes[1].reachable = False
    found = run("restore", "shop", "--reason", "x")
    assert world.nodes[0].split == Split(100, 0)
    assert "two unreachable" in found.out
    assert found.code == 1


def test_restore_without_a_router(add, run):
    world = add()
    stamp(world, Phase.CANARY, split="90/10")
    for node in world.nodes:
        node.reachable = False
    found = run("restore", "shop", "--reason", "x")
    assert found.code == 3
    assert found.err.startswith("bluegreen: shop: ")
    assert found.err.count("\n") == 1


def test_restore_wants_a_reason(add, run):
    add()
    found = run("restore", "shop")
    assert (found.code, found.err) == (2, "bluegreen: Missing option '--reason'; see bluegreen restore --help\n")


def test_guard_says_nothing_where_all_is_well(add, run):
    at_rest(add())
    found = run("guard")
    assert (found.code, found.out, found.err) == (0, "", "")


def test_guard_restores_and_says_so(add, run):
    world = add()
    stamp(world, Phase.SWITCHED, split="0/100", lease=-11)
    found = run("guard")
    assert found.code == 1
    assert found.out.startswith("shop: restored: ")
    assert world.splits() == {"100/0"}
    assert world.nodes[0].stamp.why.startswith("bluegreen guard by me@here: the lease of ")


def test_guard_looks_at_the_named_only(add, run):
    other, world = add("cart"), add("shop")
    for one in (other, world):
        stamp(one, Phase.SWITCHED, split="0/100", lease=-11)
    run("guard", "shop")
    assert (other.splits(), world.splits()) == ({"0/100"}, {"100/0"})


def test_nothing_broken_keeps_the_others_from_being_guarded(add, run, worlds, folder):
    for name in ("a-unreachable", "b-faulty"):
        add(name)
    worlds["a-unreachable"] = RouterUnreachable("no route", service="a-unreachable")
    worlds["b-faulty"] = KeyError("ours")
    (folder / "c-torn.yaml").write_text("service: [")
    world = add("shop")
    stamp(world, Phase.SWITCHED, split="0/100", lease=-11)
    found = run("guard")
    assert world.splits() == {"100/0"}
    assert found.code == 3
    assert sorted(line.split(":")[1].strip() for line in found.err.splitlines()) == [
        f"{folder}/c-torn.yaml",
        "a-unreachable",
        "unexpected KeyError",
    ]


def test_guard_watches_until_it_is_stopped(add, run, monkeypatch):
    world = add()
    at_rest(world)
    waits = []

    def sleep(seconds):
        waits.append(seconds)
        if len(waits) == 1:
            stamp(world, Phase.SWITCHED, split="0/100", lease=-11)
        if len(waits) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr("bluegreen.cli.guard.time.sleep", sleep)
    found = run("guard", "--watch", "15")
    assert found.code == 130
    assert found.out.count("restored") >= 1
    assert world.splits() == {"100/0"}
    assert all(14 < wait <= 15 for wait in waits)


def test_check_says_from_where_it_asked(add, run, folder):
    at_rest(add())
    found = run("check")
    assert (found.code, found.out) == (0, f"{folder}: 1 good, 0 broken\nshop: ok, asked by me@here\n")


def test_check_of_the_catalog_connects_to_nothing(add, run, worlds, folder):
    add()
    worlds["shop"] = AssertionError("connected")
    (folder / "torn.yaml").write_text("service: torn\nx: 1\n")
    found = run("check", "--catalog")
    assert found.out == f"{folder}: 1 good, 1 broken\n"
    assert f"bluegreen: {folder}/torn.yaml:2: x: unknown key 'x'; allowed keys: colors," in found.err
    assert found.code == 2


def test_check_reports_traffic_that_is_nobodys(add, run):
    add()
    found = run("check", "shop")
    assert found.code == 1
    assert "shop: error: no-stamp: router: the traffic is nobody's" in found.out
    assert "  mend: bluegreen adopt shop" in found.out


def test_check_reports_a_change_by_hand(add, run):
    world = add()
    at_rest(world)
    world.nodes[1].by_hand(Split(50, 50))
    found = run("check", "shop")
    assert found.code == 1
    assert "shop: error: changed-by-hand: two: somebody changed it to blue/green 50/50" in found.out


def test_check_as_json(add, run, folder):
    add()
    (folder / "torn.yaml").write_text("service: torn\nx: 1\n")
    found = run("check", "--json")
    told = json.loads(found.out)
    assert told["asked_by"] == "me@here"
    assert (told["catalog"][0]["line"], told["catalog"][-1]["file"]) == (1, f"{folder}/torn.yaml")
    assert [finding["code"] for finding in told["services"]["shop"]["findings"]] == ["no-stamp"]


def test_check_of_a_router_that_nobody_reaches(add, run, worlds):
    add()
    worlds["shop"] = RouterUnreachable("no route", service="shop")
    found = run("check")
    assert (found.code, found.err) == (3, "bluegreen: shop: no route\n")
    assert json.loads(run("check", "--json").out)["services"]["shop"] == {"error": "shop: no route", "exit": 3}


def test_a_warning_alone_is_ok(add, run, monkeypatch):
    from bluegreen.core.ports import Finding
    from tests.rigs.memory import MemoryRouter

    at_rest(add())
    finding = Finding("reload-not-hitless", "warning", "lb1", "a fact", "a line\nanother")
    monkeypatch.setattr(MemoryRouter, "check", lambda _: [finding])
    found = run("check", "shop")
    assert found.code == 0
    assert "shop: warning: reload-not-hitless: lb1: a fact\n  mend: a line\nanother\n" in found.out


@pytest.fixture
def asking(add, run, folder, worlds, monkeypatch):
    """A service at rest whose rules ask a Prometheus at this address."""
    from dataclasses import replace

    from bluegreen.analysis.registry import make_source
    from bluegreen.release import wiring
    from tests.rigs.deploy_targets import keys

    def service(url, *queries):
        at_rest(add())
        file = yaml.safe_load((folder / "shop.yaml").read_text())
        rules = [{"type": "prometheus", "name": f"rule {n}", "query": q, "max": 1} for n, q in enumerate(queries, 1)]
        file |= {"evidence": {"type": "prometheus", "url": url}, "release": file["release"] | {"rules": rules}}
        (folder / "shop.yaml").write_text(yaml.safe_dump(file))

    def ports_for(service, secrets):
        return replace(worlds["shop"].ports(service), source=make_source(service, keys()))

    monkeypatch.setattr(wiring, "ports_for", ports_for)
    return service


def test_check_says_which_rules_read_counts_that_the_router_does_not_have(add, run, folder, worlds, monkeypatch):
    from dataclasses import replace

    from bluegreen.release import wiring

    class Silent:
        """Everything of the router but its counts."""

        def __init__(self, router):
            self.read, self.check = router.read, router.check

    def ports_for(service, secrets):
        ports = worlds["shop"].ports(service)
        return replace(ports, router=Silent(ports.router))

    at_rest(add())
    assert "no-counts" not in run("check", "shop").out
    monkeypatch.setattr(wiring, "ports_for", ports_for)
    found = run("check", "shop")
    text = " ".join(found.out.split())
    assert (found.code, text.count("error: no-counts")) == (1, 2)
    assert "release.rules: error_rate at most 5: haproxy counts no requests: no release begins" in text


def test_check_says_once_that_prometheus_does_not_answer(asking, run):
    asking(f"http://127.0.0.1:{free_port()}", "a$color", "b$color")
    found = run("check", "shop")
    assert found.code == 0
    assert found.out.count("shop: warning: no-number: ") == 1
    text = " ".join(found.out.split())
    assert "release.rules: rule 1: no number for blue: Prometheus gives no answer: no connection" in text
    assert "mend: a watch would hold to its end, and fail then" in text


@pytest.mark.prometheus
@pytest.mark.skipif(BINARY is None, reason="no prometheus here: apt-get install prometheus")
def test_check_asks_each_rule_for_the_live_color_in_prometheuss_words(asking, run):
    with PrometheusRig() as rig:
        del rig.traffic["green"]
        rig.wait_for('http_requests_total{environment="blue"}')
        each = 'http_requests_total{environment="$color"}'
        asking(rig.url, f"sum({each})", f"sum({each}", f'{each} or up{{job="shop"}}', 'none{x="$color"}')
        found = run("check", "shop", "--json")
    (answer,) = json.loads(found.out)["services"].values()
    told = {(f["where"], f["level"]): f["fact"] for f in answer["findings"]}
    assert found.code == 1
    assert list(told) == [
        ("release.rules: rule 2", "error"),
        ("release.rules: rule 3", "warning"),
        ("release.rules: rule 4", "warning"),
    ]
    refused, two, none = told.values()
    assert refused.startswith("no number for blue: Prometheus says bad_data: invalid parameter")
    assert "unclosed left parenthesis" in refused
    assert "2 series, wanted one" in two
    assert "empty" in none


def test_adopt_stamps_the_traffic_as_it_stands(add, run):
    world = add()
    found = run("adopt", "shop", "--version", "1.4.2", "--reason", "first use")
    assert found.code == 0
    assert found.out.startswith("shop: all traffic on blue\nadopted: blue/green 100/0, restored (epoch 1)")
    assert world.nodes[2].stamp.versions == {Color.BLUE: "1.4.2"}
    assert world.nodes[2].stamp.why == "bluegreen adopt by me@here: first use"
    assert run("status", "shop").code == 0


def test_adopt_wants_to_know_the_color_of_split_traffic(add, run):
    world = add()
    for node in world.nodes:
        node.by_hand(Split(50, 50))
    refused = run("adopt", "shop", "--version", "1", "--reason", "x")
    assert refused.code == 2
    assert "say which: --live blue" in refused.err
    assert run("adopt", "shop", "--version", "1", "--reason", "x", "--live", "green").code == 0
    assert world.splits() == {"0/100"}
