"""Which host is deployed to when, and what a failure of one means for the others."""

from __future__ import annotations

import threading
import time

import pytest

from bluegreen.core.colors import Color
from bluegreen.core.errors import DeployError
from bluegreen.core.ports import Deployed
from tests.rigs.ssh_deploy import SCRIPT
from tests.unit.deployers.ssh.far import GREEN, NEEDS_SSHD, deploy, sh

pytestmark = NEEDS_SSHD

MEET = (
    'touch "FOLDER/here-$HOST"; n=0; '
    'until [ "$(ls FOLDER | grep -c here-)" = 2 ]; do n=$((n + 1)); [ $n = 200 ] && exit 9; sleep 0.05; done; '
)
ALONE = "mkdir FOLDER/busy || exit 9; sleep 0.5; rmdir FOLDER/busy; "


def test_in_parallel_every_host_works_at_once(make):
    assert deploy(make(commands=[sh(MEET + SCRIPT)])) == Deployed("2.0", 2, 2)


def test_no_more_than_max_parallel_work_at_once(make):
    assert deploy(make(commands=[sh(ALONE + SCRIPT)], max_parallel=1)) == Deployed("2.0", 2, 2)


def test_rolling_goes_host_by_host_and_waits_for_health_in_between(make, tmp_path):
    rig = make(order="rolling", ready_within="10s", commands=[sh(f"echo $HOST >> FOLDER/begun; {SCRIPT}")])
    one, two = rig.hosts
    start = time.monotonic()
    answer = rig.sites[GREEN][one].reply
    begun = tmp_path / "begun"

    def late(asked):
        assert two not in begun.read_text() or time.monotonic() > start + 1.5
        return answer(asked) if time.monotonic() > start + 3 else rig.sites[Color.BLUE][one].reply(asked)

    rig.sites[GREEN][one].reply = late
    started = []
    thread = threading.Thread(target=lambda: started.append(deploy(rig)))
    thread.start()
    while time.monotonic() < start + 2.5:
        assert not begun.exists() or two not in begun.read_text()
        time.sleep(0.02)
    assert begun.read_text().split() == [one]
    thread.join()
    assert started == [Deployed("2.0", 2, 2)]
    assert begun.read_text().split() == [one, two]


def test_rolling_stops_at_the_first_failure_and_the_others_keep_what_they_had(make):
    rig = make(count=3, order="rolling", commands=[sh(f'{SCRIPT}; case $HOST in *"$(cat FOLDER/bad)") exit 7;; esac')])
    one, two, three = rig.hosts
    (rig.folder / "bad").write_text(two)
    with pytest.raises(DeployError) as raised:
        deploy(rig)
    text = str(raised.value)
    assert f"1 of 3 hosts failed:\n    {two}: command 1 of 1: sh: ended with code 7; its last lines:" in text
    assert f"deploying 2.0 as {two}" in text
    assert f"{one}: 2.0 is up" in text
    assert f"{three}: as before: nothing was begun" in text
    assert [rig.ran(host) for host in rig.hosts] == [1, 1, 0]


def test_rolling_stops_at_the_first_host_that_is_not_healthy(make):
    rig = make(order="rolling")
    with pytest.raises(DeployError) as raised:
        deploy(rig, version="bad")
    assert f"{rig.hosts[1]}: as before: nothing was begun" in str(raised.value)
    assert rig.sites[GREEN][rig.hosts[0]].url in str(raised.value)
    assert f"log of green on {rig.hosts[0]}" in str(raised.value)
    assert [rig.ran(host) for host in rig.hosts] == [1, 0]


def test_in_parallel_one_hosts_failure_keeps_no_other_from_its_end(make):
    rig = make(commands=[sh('[ "$HOST" = "$(cat FOLDER/bad)" ] && exit 7; sleep 0.5; ' + SCRIPT)])
    one, two = rig.hosts
    (rig.folder / "bad").write_text(one)
    with pytest.raises(DeployError) as raised:
        deploy(rig)
    assert f"{two}: 2.0 is there, its targets were not asked yet" in str(raised.value)
    assert [rig.ran(host) for host in rig.hosts] == [0, 1]


def test_a_repeated_task_deploys_only_where_it_is_not_up(make, lines):
    rig = make()
    one, two = rig.hosts
    deploy(rig)
    rig.on(two, "green.version").unlink()
    assert deploy(rig, lines) == Deployed("2.0", 2, 2)
    assert [rig.ran(host) for host in rig.hosts] == [1, 2]
    assert f"{one}: 2.0 was up already, by this very release" in lines


def test_a_repeated_rolling_deploy_goes_on_where_it_stopped(make):
    rig = make(order="rolling", commands=[sh(f'[ -e "FOLDER/stop-$HOST" ] && exit 7; {SCRIPT}')])
    stop = rig.folder / f"stop-{rig.hosts[1]}"
    stop.touch()
    with pytest.raises(DeployError):
        deploy(rig)
    stop.unlink()
    deploy(rig)
    assert rig.deploys() == 1


def test_without_a_match_of_hosts_and_targets_all_targets_are_waited_for(make):
    rig = make(targets={})
    assert deploy(rig) == Deployed("2.0", 2, 2)
    assert deploy(rig) == Deployed("2.0", 2, 2)
    assert rig.deploys() == 1
