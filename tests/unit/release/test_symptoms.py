"""Each rule over facts as they may be gathered; real broken set-ups stand in tests/contract/test_diagnose.py."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from bluegreen.checks.looks import Look
from bluegreen.checks.names import NameAnswer
from bluegreen.core.colors import Color, Split
from bluegreen.core.ports import Finding
from bluegreen.core.reading import Health, NodeReading, Reading
from bluegreen.core.stamp import Phase, Stamp
from bluegreen.release import symptoms
from bluegreen.release.facts import Facts
from bluegreen.release.pod_symptoms import CODES
from bluegreen.release.symptoms import causes
from tests.unit.release.world import SERVICE

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
TENTH, BLUE = Split(90, 10), Split.whole_on(Color.BLUE)
WELL = dict.fromkeys(Color, Health(1, 1))


def node(phase=Phase.CLAIMED, split=BLUE, name="one", **more):
    lease = more.pop("lease", NOW + timedelta(seconds=60)) if phase.transitional else None
    fields = {"back_to": Color.BLUE, "lease": lease, "why": "a test"} | more.pop("stamp", {})
    mark = Stamp(5, "run@4", str(phase), phase, **fields)
    return NodeReading(name, split, mark, split, health=WELL, **more)


def target(color, url="http://127.0.0.1:2", **more):
    return Look(url, f"{url}/health", color, **({"status": 200, "ms": 1.0, "version": "1"} | more))


def entry(**more):
    return Look("one", "http://shop.test/", **({"status": 200, "ms": 1.0, "served": "blue"} | more))


def facts(*nodes, **more):
    """Facts of a service where all is well, but for what is given."""
    targets = [target(Color.BLUE), target(Color.GREEN, "http://127.0.0.1:3")]
    usual = {"targets": targets, "entries": [entry()], "by_name": entry()}
    return Facts(SERVICE, NOW, reading=Reading("shop", nodes or (node(),)), **(usual | more))


def first(found):
    return next((cause for cause in causes(found)), None)


def test_all_is_well():
    assert causes(facts()) == []


GONE = {"status": None, "kind": "no connection", "error": "Connect call failed"}
UNKNOWN = GONE | {"error": "Name or service not known"}


def broken_green(**more):
    return [target(Color.BLUE), target(Color.GREEN, "http://10.0.0.3:80", **more)]


CRASHES = "next: CrashLoopBackOff: kubectl -n shop logs x -c app --previous"


@pytest.mark.parametrize(
    ("found", "code", "command"),
    [
        (facts(NodeReading("one", error="h does not let root in; tried its password")), "ssh-login-refused", "true"),
        (facts(NodeReading("one", error="no permission on the admin socket /x")), "node-disk", "ls -la"),
        (facts(NodeReading("one", error="did not answer")), "node-unreachable", "systemctl status haproxy"),
        (
            facts(NodeReading("one", error="the host key of h is not known; compare with `x`, then ssh-keyscan h >> k")),
            "ssh-key-unknown", "ssh-keyscan h >> k",
        ),
        (facts(node(Phase.STRANDED)), "stranded", "bluegreen status shop"),
        (facts(node(Phase.CANARY, TENTH, lease=NOW - timedelta(minutes=1))), "lease-out", "bluegreen guard shop"),
        (facts(replace(node(), split=TENTH)), "changed-by-hand", "bluegreen restore shop --reason"),
        (facts(replace(node(), settled=False, detail="file 2, run time 1")), "file-not-in-force", "bluegreen guard shop"),
        (facts(node(), replace(node(), node="two", stamp=None)), "changed-by-hand", "bluegreen restore shop"),
        (
            facts(node(), replace(node(stamp={"why": "x"}), node="two", stamp=replace(node().stamp, epoch=4))),
            "nodes-differ", "bluegreen guard shop",
        ),
        (
            facts(findings=[Finding("map-file-not-writable", "error", "shop: one, seen from x", "no", "")]),
            "node-disk", "df -h /",
        ),
        (facts(targets=broken_green(status=500, body="no such table: orders")), "database-differs", "curl"),
        (facts(logs={Color.GREEN: "ok\nUnknown column 'a'"}), "database-differs", "curl"),
        (
            facts(node(Phase.CANARY, TENTH), logs={Color.GREEN: 'relation "a" does not exist'}),
            "database-differs", "bluegreen restore shop --reason",
        ),
        (facts(targets=broken_green(**GONE)), "process-not-there", "ssh 10.0.0.3 'ss -ltnp"),
        (facts(targets=broken_green(**UNKNOWN)), "name-unknown", "getent hosts"),
        (facts(targets=broken_green(**GONE | {"kind": "timeout"})), "target-hangs", "curl"),
        (facts(targets=broken_green(**GONE | {"kind": "tls", "error": "has expired"})), "certificate", "openssl"),
        (facts(targets=broken_green(status=503)), "target-unhealthy", "curl -sS -i http://10.0.0.3:80/health"),
        (facts(targets=broken_green(status=404)), "wrong-path", "curl"),
        (facts(targets=broken_green(status=403)), "health-needs-login", "curl"),
        (facts(wanted={Color.GREEN: "2"}), "wrong-version", "curl"),
        (facts(replace(node(), health=WELL | {Color.GREEN: Health(0, 1)})), "router-check-differs", "show stat"),
        (facts(entries=[entry(**GONE)]), "entry-silent", "curl -sS -i --connect-to ::127.0.0.1:1 http://shop.test/"),
        (facts(entries=[entry(**GONE | {"kind": "tls", "error": "self-signed"})]), "certificate", "-servername shop.test"),
        (facts(entries=[entry(served=None)]), "color-header-missing", "bluegreen check shop"),
        (facts(entries=[entry(served="green")]), "another-rule-wins", "bluegreen check shop"),
        (facts(by_name=entry(served=None)), "answered-elsewhere", "curl -sS -i http://shop.test/"),
        (facts(by_name=entry(**GONE)), "answered-elsewhere", "curl"),
        (facts(by_name=entry(**UNKNOWN)), "name-unknown", "getent hosts shop.test"),
        (
            facts(names=[NameAnswer("shop.test", "1", ("10.0.0.1",), 60), NameAnswer("shop.test", "2", ("10.0.0.2",), 9)]),
            "dns-differs", "resolvectl flush-caches",
        ),
        (facts(findings=[Finding("weighted-map", "error", "shop: one", "a", "b")]), "weighted-map", "bluegreen check shop"),
        (facts(replace(node(), stamp=None, stamped_split=None)), "no-stamp", "bluegreen adopt shop --version VERSION"),
        (facts(logs={Color.GREEN: f"pod x\n{CRASHES}"}), "crash-loop", "kubectl -n shop logs x -c app --previous"),
        (facts(logs={Color.BLUE: "next: no node has room for a pod: kubectl x"}), "no-room", "kubectl x"),
        # Names that only the entry's users know are no lead here: a watch has said what was wrong.
        (
            facts(node(Phase.RESTORED, stamp={"why": "watch: 11 % of 27"}), by_name=entry(**UNKNOWN)),
            "put-back", "bluegreen status shop",
        ),
        (facts(node(Phase.RESTORED), entries=[entry(**GONE)]), "entry-silent", "curl"),
        (facts(node(Phase.HELD, TENTH)), "held", "bluegreen status shop"),
        (facts(node(stamp={"clients_follow_until": NOW + timedelta(seconds=9)})), "sticky-clients", "bluegreen status"),
    ],
)  # fmt: skip
def test_each_symptom_has_its_cause_and_next_command(found, code, command):
    cause = first(found)
    assert cause, "nothing was found"
    assert cause.code == code, causes(found)
    assert command in cause.next_step
    assert "\n" not in cause.says


def test_every_code_stands_in_the_table(pytestconfig):
    page = (pytestconfig.rootpath / "docs/troubleshooting.md").read_text()
    rows = page.split("## What a diagnosis says")[1].split("\n## ")[0]
    release = pytestconfig.rootpath / "plugins/bluegreen/release"
    source = "".join((release / name).read_text() for name in ("symptoms.py", "pod_symptoms.py"))
    codes = {
        word for test in test_each_symptom_has_its_cause_and_next_command.pytestmark for _, word, _ in test.args[1]
    }
    assert codes - {"weighted-map"} == {code for code in codes if f"`{code}`" in rows}
    assert codes - {"weighted-map"} == {code for code in codes if f'"{code}"' in source}


def test_every_symptom_of_pods_is_one_that_the_deployer_says_and_stands_in_the_table(pytestconfig):
    page = (pytestconfig.rootpath / "docs/troubleshooting.md").read_text()
    said = (pytestconfig.rootpath / "plugins/bluegreen/deployers/kube_diagnosis.py").read_text()
    for symptom, code in CODES.items():
        assert f'"{symptom}"' in said
        assert f"`{code}`" in page


@pytest.mark.parametrize("phase", [Phase.SETTLED, Phase.RESTORED])
def test_a_color_that_was_retired_may_be_gone(phase):
    retired = node(phase, stamp={"back_to": None if phase is Phase.SETTLED else Color.BLUE})
    found = causes(facts(retired, targets=broken_green(**GONE)))
    assert [cause.code for cause in found] == ([] if phase is Phase.SETTLED else ["process-not-there", "put-back"])


def test_several_targets_of_a_color_are_one_cause():
    found = causes(facts(targets=[target(Color.GREEN, f"http://10.0.0.{n}:80", **GONE) for n in range(3)]))
    assert [cause.code for cause in found] == ["process-not-there"]
    assert "green: http://10.0.0.0:80 (and 2 more of 3) takes no connection" in found[0].says


def test_the_rules_say_nothing_without_facts():
    assert causes(Facts(SERVICE, NOW)) == []


def test_every_rule_is_in_the_table():
    rules = {name for name, value in vars(symptoms).items() if str(getattr(value, "__annotations__", {}).get("return")) ==
             "Iterator[Cause]"}  # fmt: skip
    assert {rule.__name__ for rule in symptoms.RULES} == rules
