"""People in the middle: what is held, who may answer what until when, and what they are shown."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from bluegreen.catalog.approvals import Approval
from bluegreen.catalog.models import Service
from bluegreen.core.colors import Color
from bluegreen.core.errors import NotApproved, NotServing, ReleaseFinished, TrafficConflict
from bluegreen.core.stamp import Phase
from bluegreen.release.adopt import adopt
from bluegreen.release.answer import APPROVE, LONGEST_COMMENT, REJECT, Answer, approved
from bluegreen.release.guard import guard
from bluegreen.release.plan import dry_run, plan
from bluegreen.release.question import Evidence, question, word
from bluegreen.release.restore import restore
from bluegreen.release.rollback import rollback
from bluegreen.release.shift import held_until, hold, shift
from tests.unit.release.world import SERVICE, World, request

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
ASKED = Approval(by=("bob", "team-lead"), deadline=timedelta(minutes=30))


def asking(**release):
    changes = {"approvals": {"before_canary": {}, "before_switch": {"by": ["bob"], "deadline": "30m"}}} | release
    return Service.model_validate(SERVICE.frozen() | {"release": SERVICE.frozen()["release"] | changes})


class Held:
    """A release whose canary has 10 %, held for 30 minutes."""

    def __init__(self):
        self.world = World()
        self.ports = self.world.ports(asking())
        adopt(self.ports, "tests", "begin", "1")
        self.plan = plan(self.ports, request())
        self.world.runs[Color.GREEN] = "2"
        self.canary = shift(self.ports, self.plan, "canary_1", 10, self.plan.epoch)
        self.held = self.hold()

    def hold(self):
        asked = self.plan.service.release.approvals.before_switch
        return hold(self.ports, self.plan, "hold", 10, self.canary.epoch, asked)

    def switch(self):
        return shift(self.ports, self.plan, "switch", 100, self.held.epoch)

    @property
    def stamp(self):
        return self.ports.router.read().stamp


@pytest.fixture
def held():
    return Held()


def test_the_canary_keeps_its_share_under_a_lease_as_long_as_the_deadline(held):
    assert (held.stamp.phase, held.world.splits()) == (Phase.HELD, {"90/10"})
    assert held_until(held.plan, held.held) == held.world.time + timedelta(minutes=30)
    assert held.stamp.lease == held.world.time + timedelta(minutes=31)  # and one lease for the switch to come
    assert held.stamp.why == "10 % for 2 on green; asked until 12:30:00 UTC: bob"


def test_a_late_yes_in_time_switches(held):
    held.world.wait(1799)
    assert held.switch().reading.live is Color.GREEN


def test_no_watch_renews_what_is_held(held):
    with pytest.raises(TrafficConflict):
        held.ports.router.renew((held.canary.epoch, held.plan.release), held.world.time + timedelta(days=1))
    assert held.stamp.lease == held.world.time + timedelta(minutes=31)


def test_a_repeated_hold_gives_nobody_more_time(held):
    held.world.wait(600)
    held.world.nodes[2].stamp = held.canary.reading.stamp  # the task died before the last node
    again = held.hold()
    assert held_until(held.plan, again) == NOON + timedelta(minutes=30)
    assert {node.stamp.lease for node in held.world.nodes} == {NOON + timedelta(minutes=31)}


def test_silence_is_ended_by_the_guard_and_a_yes_after_it_moves_nothing(held):
    held.world.wait(31 * 60 + 11)
    assert guard(held.ports, "guard").action == "restored"
    with pytest.raises(ReleaseFinished, match="restored"):
        held.switch()
    assert held.world.splits() == {"100/0"}


def test_a_yes_after_the_lease_moves_nothing_even_before_the_guard_has_looked(held):
    held.world.wait(31 * 60 + 11)
    with pytest.raises(TrafficConflict, match="the lease of run-1@2 ran out at 12:31:00 UTC"):
        held.switch()
    assert held.world.splits() == {"90/10"}


def test_a_rollback_while_it_is_held_ends_the_release(held):
    rollback(held.ports, "rollback-1", "please", "person")
    with pytest.raises(ReleaseFinished):
        held.switch()
    assert held.world.splits() == {"100/0"}


@pytest.mark.parametrize(
    ("happens", "error", "sentence"),
    [
        (lambda world: world.runs.update({Color.GREEN: "3"}), NotServing, "green: runs 3, not 2 as planned"),
        (lambda world: world.runs.update({Color.GREEN: None}), NotServing, "runs no one version, not 2 as planned"),
        (lambda world: world.serve(Color.GREEN, 0), NotServing, "new color has no healthy server"),
        (lambda world: world.serve(Color.BLUE, 0), NotServing, "old color has no healthy server"),
        (lambda world: world.serve(Color.GREEN, 1), NotServing, "new color has 1 healthy servers, the old one 2"),
    ],
)
def test_what_changed_while_people_thought_is_found_before_the_switch(held, happens, error, sentence):
    happens(held.world)
    with pytest.raises(error, match=sentence):
        held.switch()
    assert held.world.splits() == {"90/10"}


def test_what_changed_while_people_thought_is_found_before_the_canary():
    world = World()
    adopt(world.ports(), "tests", "begin", "1")
    release = plan(world.ports(asking()), request())
    world.runs[Color.GREEN] = "3"
    with pytest.raises(NotServing, match="green: runs 3, not 2 as planned"):
        shift(world.ports(), release, "canary_1", 10, release.epoch)
    assert world.splits() == {"100/0"}


def test_where_targets_tell_no_version_none_is_wanted(held):
    silent = held.plan.service.model_copy(
        update={"health": held.plan.service.health.model_copy(update={"version": None})}
    )
    held.plan = held.plan.model_copy(update={"service": silent})
    held.world.runs[Color.GREEN] = None
    assert held.switch().reading.live is Color.GREEN


def test_a_hold_is_not_written_for_a_release_that_is_over(held):
    restore(held.ports, "bad", "tests", held.plan.run)
    with pytest.raises(ReleaseFinished):
        held.hold()


# -- answers


def answer(chosen=APPROVE, by="bob", user="bob", minutes=1, comment=""):
    return Answer("run-1@2", chosen, by, user, NOON + timedelta(minutes=minutes), comment)


def judged(one, approval=ASKED):
    approved(one, approval, NOON + approval.deadline, "shop", "approve_switch")


def test_a_yes_in_time_of_one_who_was_asked_passes():
    judged(answer())
    judged(answer(by="eve", user="eve"), Approval(deadline=timedelta(minutes=30)))  # anybody is asked


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (
            answer(REJECT, comment="too slow"),
            "shop: approve_switch: refused by bob: too slow; the release does not go on",
        ),
        (answer(REJECT), "refused by bob;"),
        (answer(REJECT, by=None, user=None), "nobody answered within 30m"),
        (answer(APPROVE, by=None, user=None), "nobody answered within 30m"),  # a default is nobody's yes
        (answer(by="Anonymous", user="-1"), "answered by Anonymous, who was not asked; asked: bob, team-lead"),
        (answer(minutes=31), "bob answered at 12:31:00 UTC, the deadline was 12:30:00 UTC"),
    ],
)
def test_anything_else_does_not_pass(given, sentence):
    with pytest.raises(NotApproved, match=sentence):
        judged(given)


def test_an_answer_travels_as_json():
    assert answer(comment="fine").as_json() == {
        "release": "run-1@2",
        "chosen": "Approve",
        "by": "bob",
        "at": "2026-11-23T12:01:00+00:00",
        "comment": "fine",
    }
    assert LONGEST_COMMENT >= 200


# -- the form

EVIDENCE = Evidence(
    deploy={"color": "green", "version": "2", "ready": 2, "total": 2},
    prewarm={
        "requests": 300,
        "failures": 1,
        "first_ms": {"p50": 9.5, "p99": 40.0},
        "last_ms": {"p50": 2.0, "p99": 6.0},
    },
    smoke=[
        {"target": "http://127.0.0.1:3", "test": "GET /", "ok": True, "ms": 3.0, "failures": []},
        {"target": "http://127.0.0.1:3", "test": "GET /api", "ok": True, "ms": 4.1, "failures": []},
    ],
    watch={
        "says": "healthy",
        "reason": "error_rate 0.1 %",
        "verdict": {"numbers": {"rules": [{"state": "kept", "text": "error_rate 0.1 % of 900 requests, at most 5"}]}},
    },
)


def test_the_form_before_the_switch_shows_what_is_needed_to_answer(held):
    form = question(held.plan, "before_switch", NOON + timedelta(minutes=30), EVIDENCE)
    assert form.subject == "shop 2: all of the traffic?"
    assert form.body == (
        "**shop**: `2` on green, in place of `1` on blue\n"
        "\n"
        "- asked for by `tests` in `run-1`\n"
        "- plan: 10 % for 5s; then all, watched for 5s\n"
        "\n"
        "**What was found**\n"
        "\n"
        "- deploy: green runs `2`, 2 of 2 targets are healthy\n"
        "- prewarming: 300 requests, 1 failed; p50 9.5 → 2 ms, p99 40 → 6 ms\n"
        "- smoke tests: 2 of 2 passed\n"
        "    - ok, 3 ms: `GET /` on `http://127.0.0.1:3`\n"
        "    - ok, 4.1 ms: `GET /api` on `http://127.0.0.1:3`\n"
        "- the canary holds 10 % of the traffic on green; nobody watches while it is held\n"
        "- its watch: **healthy**\n"
        "    - kept: `error_rate 0.1 % of 900 requests, at most 5`\n"
        "\n"
        "**What happens**\n"
        "\n"
        "- **Approve**: health, version and owner are looked at again; all of the traffic goes to green, is watched for 5s "
        "and then settled\n"
        "- **Reject**: all traffic goes back to blue; the release ends, not promoted\n"
        "- no answer until **2026-11-23 12:30:00 UTC**: as Reject; the guard puts the traffic back also when Airflow is down"
    )


def test_many_smoke_tests_do_not_push_the_answer_off_the_page(held):
    many = replace(EVIDENCE, smoke=[*EVIDENCE.smoke] * 10)
    body = question(held.plan, "before_switch", NOON, many).body
    assert "smoke tests: 20 of 20 passed" in body
    assert body.count("GET /") == 12
    assert "    - and 8 more" in body


def test_the_form_before_the_canary_says_that_nothing_has_moved(held):
    form = question(held.plan, "before_canary", NOON, EVIDENCE)
    assert form.subject == "shop 2: 10 % of the traffic?"
    assert "**Reject**: all traffic stays on blue" in form.body
    assert "canary holds" not in form.body
    assert form.body.endswith("UTC**: as Reject")


def test_a_form_over_steps_that_were_left_out_says_so(held):
    quick = held.plan.service.model_copy(
        update={"release": held.plan.service.release.model_copy(update={"canary": ()})}
    )
    hotfix = held.plan.model_copy(
        update={"service": quick, "skip": ("prewarm", "smoke"), "skip_reason": "hotfix 4711", "old_version": None}
    )
    form = question(hotfix, "before_switch", NOON, Evidence())
    assert form.subject == "shop 2: all of the traffic?"
    for said in (
        "in place of an unknown version",
        "plan: no canary; then all",
        "left out: prewarm, smoke; reason: `hotfix 4711`",
        "deploy: left no result",
        "prewarming: left out",
        "smoke tests: left out",
        "**Reject**: all traffic stays on blue",
    ):
        assert said in form.body


@pytest.mark.parametrize(
    "evil",
    [
        "1`2",
        "``` \n# head",
        "<script>x</script>",
        "[a](http://evil)",
        "a\n\n- b",
        "x\u202e\x1b[31my",
        "``",
        "",
        "v" * 999,
    ],
)
def test_a_foreign_word_stays_one_code_span_on_one_line(evil):
    said = word(evil)
    assert said.count("`") == 2
    assert said[0] == said[-1] == "`"
    assert said.isprintable()
    assert len(said) <= 202
    assert said != "``"


def test_markup_in_a_reason_or_version_does_not_break_the_form(held):
    evil = "x`\n\n**Approve**: <b>nothing</b> [click](javascript:alert(1))"
    hurt = held.plan.model_copy(update={"version": "2`</li>", "skip": ("smoke",), "skip_reason": evil})
    form = question(hurt, "before_switch", NOON, EVIDENCE)
    plain = question(
        held.plan.model_copy(update={"skip": ("smoke",), "skip_reason": "x"}), "before_switch", NOON, EVIDENCE
    )
    assert len(form.body.splitlines()) == len(plain.body.splitlines())
    outside = "".join(form.body.split("`")[::2])
    for markup in ("<", "[", "javascript", "nothing"):
        assert markup not in outside


def test_a_dry_run_names_who_will_be_asked():
    world = World()
    ports = world.ports(asking())
    adopt(ports, "tests", "begin", "1")
    lines = dry_run(ports, request())
    assert "then ask anybody for 1h" in lines[2]
    assert lines[4] == "epoch 4: write blue/green 90/10 as held to one, two, three, then ask bob for 30m"
