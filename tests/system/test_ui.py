"""What a release engineer does in Airflow's UI, clicked in a real browser; its pictures are those of docs/airflow-ui.md."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from demo.shop import BAD
from tests.system.browser import CHROMIUM, browser
from tests.system.conftest import eventually

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium here: apt-get install chromium")


@pytest.fixture(scope="module")
def person(whole_stack, tmp_path_factory):
    with browser(whole_stack.airflow.url, whole_stack.airflow.login, tmp_path_factory.mktemp("images")) as found:
        yield found


@pytest.fixture
def ui(person):
    yield person
    person.close()


def form_of(ui, dag):
    """Open a DAG's trigger form."""
    ui.open("dags", dag)
    ui.page.get_by_role("button", name="Trigger Dag").click()
    dialog = ui.page.get_by_role("dialog")
    expect(dialog).to_be_visible()
    return dialog


def started(stack, dag, before):
    """Return the run that came with a click."""
    return eventually(
        lambda: next((r["dag_run_id"] for r in stack.api.runs(dag) if r["dag_run_id"] not in before), None),
        f"a run of {dag}",
    )


def test_the_list_is_filtered_by_tag_and_says_whose_a_service_is(stack, ui):
    ui.open("dags", query="?tags=rollback")
    ui.sees("rollback__shop")
    expect(ui.page.get_by_role("link", name="release__shop")).to_have_count(0)
    ui.open("dags", stack.dag)
    ui.sees("team-shop")
    ui.page.get_by_role("button", name="Dag Docs").click()
    ui.sees("Brings a version to the idle color")


def test_a_release_is_started_in_the_form_and_followed_to_its_end(stack, ui):
    before, version = [r["dag_run_id"] for r in stack.api.runs(stack.dag)], stack.version()
    dialog = form_of(ui, stack.dag)
    for section in ("Traffic", "Exceptions"):
        expect(dialog.get_by_text(section).first).to_be_visible()
    expect(dialog.get_by_text("Only show the exact changes, in the log of plan")).to_be_visible()
    dialog.locator("#element_version").fill(version)
    ui.picture("form")
    dialog.get_by_role("button", name="Trigger", exact=True).click()
    run = started(stack, stack.dag, before)
    assert stack.api.run(stack.dag, run)["conf"]["version"] == version
    assert stack.end_of(stack.dag, run)["state"] == "success"
    ui.open("dags", stack.dag, "runs", run)
    ui.sees(f"promoted: admin: {version} is live on")
    ui.page.get_by_role("button", name=re.compile("Show Graph")).click()
    expect(ui.page.locator(".react-flow__node").filter(has_text="verdict").first).to_be_visible()
    ui.page.get_by_role("button", name="Collapse Details Panel").click()
    ui.page.get_by_role("button", name=re.compile("Fit", re.IGNORECASE)).first.click()
    ui.picture("graph", clip={"x": 64, "y": 340, "width": 1336, "height": 260})
    ui.page.get_by_role("button", name=re.compile("Show Grid")).click()


def test_what_is_wrong_in_the_form_is_said_there_and_starts_nothing(stack, ui):
    before = len(stack.api.runs(stack.dag))
    dialog = form_of(ui, stack.dag)
    dialog.locator("#element_version").fill("1 5")
    dialog.get_by_role("button", name="Trigger", exact=True).click()
    ui.sees("does not match")
    assert len(stack.api.runs(stack.dag)) == before


def test_a_bad_version_is_understood_from_the_run_its_logs_and_its_links(stack, ui):
    run = stack.release(BAD, canary_watch="60s")
    assert run.ended() == "failed"
    ui.open("dags", stack.dag, "runs", run.run_id)
    ui.sees("NOT promoted: shop: canary_1_watch: error_rate")
    ui.picture("run")
    ui.open("dags", stack.dag, "runs", run.run_id, "tasks", "canary_1_watch")
    ui.sees("restored: blue/green")
    ui.picture("log")
    ui.open("dags", stack.dag, "runs", run.run_id, "tasks", "deploy", "details")
    ui.page.get_by_role("link", name="What happened").click()
    expect(ui.page).to_have_url(re.compile("tasks/verdict$"))
    ui.page.get_by_role("button", name=re.compile("scroll to top")).click()
    ui.sees("## What moved")
    ui.picture("report")
    ui.open("dags", stack.dag, "runs", run.run_id, "tasks", "deploy", "details")
    ui.page.get_by_role("link", name="Where the traffic is").click()
    ui.sees("already restored: blue/green")
    ui.open("dags", stack.dag, "runs", run.run_id, "tasks", "deploy", "details")
    ui.page.get_by_role("link", name="Report").click()
    expect(ui.page).to_have_url(re.compile("tasks/verdict/xcom$"))
    expect(ui.page.get_by_role("cell", name="report", exact=True)).to_be_visible()
    assert stack.api.links(stack.dag, run.run_id, "deploy")["Entry"] == "http://shop.test"


def test_the_question_before_the_switch_is_answered_by_a_click(stack, ui):
    release = stack.shop.service()["release"] | {"approvals": {"before_switch": {}}}
    stack.write(release=release)
    eventually(lambda: "approve_switch" in stack.api.task_ids(stack.dag), "the DAG to ask")
    run = stack.release()
    run.reaches("approve_switch", "awaiting_input")
    ui.page.wait_for_timeout(2500)  # Airflow fails a task that is answered in its first second
    ui.open("dags", stack.dag, "runs", run.run_id, "tasks", "approve_switch", "required_actions")
    ui.sees("its watch: healthy")
    ui.picture("approval")
    ui.page.get_by_role("button", name="Approve").click()
    assert run.ended() == "success", run.note()


def test_too_little_evidence_is_asked_about_with_what_was_seen_and_a_click_lets_it_go_on(stack, ui):
    more = {"type": "threshold", "metric": "error_rate", "max": 5, "min_requests": 1_000_000}
    asked = {"rules": [more], "extend": "1s", "approvals": {"unknown": {"deadline": "5m"}}}
    stack.write(release=stack.shop.service()["release"] | asked)
    run = stack.release()
    for task in ("canary_1_watch", "watch"):
        run.reaches(task, "awaiting_input")
        assert stack.phase() == "held"
        ui.page.wait_for_timeout(2500)  # Airflow fails a task that is answered in its first second
        ui.open("dags", stack.dag, "runs", run.run_id, "tasks", task, "required_actions")
        ui.sees("requests, 1000000 are needed")
        ui.page.get_by_role("button", name="Approve").click()
    assert run.ended() == "success", run.note()


def test_going_back_is_a_form_with_a_reason(stack, ui):
    run = stack.release()
    assert run.ended() == "success", run.note()
    live = stack.status()["live"]
    before = [r["dag_run_id"] for r in stack.api.runs("rollback__shop")]
    dialog = form_of(ui, "rollback__shop")
    dialog.locator("#element_reason").fill("checkout is broken")
    dialog.get_by_role("button", name="Trigger", exact=True).click()
    back = started(stack, "rollback__shop", before)
    assert stack.end_of("rollback__shop", back)["state"] == "success"
    assert stack.status()["live"] != live
    assert "checkout is broken" in stack.status()["stamp"]["why"]
    ui.open("dags", "rollback__shop", "runs", back)
    ui.sees("rolled back: checkout is broken | ")
    ui.open("dags", "rollback__shop", "runs", back, "tasks", "rollback", "details")
    ui.page.get_by_role("link", name="Report").click()
    expect(ui.page).to_have_url(re.compile("tasks/rollback/xcom$"))
