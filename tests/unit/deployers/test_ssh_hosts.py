"""Deploys over real SSH: what hosts get, in which order, what stops them, and what is said of each host then."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, suppress
from datetime import timedelta
from pathlib import Path

import pytest

import bluegreen
from bluegreen.core.colors import Color
from bluegreen.core.errors import DeployError, DeployFenced, SecretMissing
from bluegreen.core.ports import Deployed
from bluegreen.deployers.far_host import FarHost
from bluegreen.deployers.fence import Fence
from bluegreen.deployers.ssh_hosts import SshDeployer
from bluegreen.hosts.host_fence import HostFence
from tests.rigs.ssh_deploy import SCRIPT, far_hosts_rig
from tests.rigs.sshd import missing_sshd
from tests.unit.deployers.test_child import Cancelled, gone
from tests.unit.deployers.test_child import pid_in as soon_pid_in

pytestmark = pytest.mark.skipif(bool(missing_sshd()), reason=missing_sshd())

GREEN = Color.GREEN
RELEASE = "run@4"
ROOT = Path(bluegreen.__file__).parents[2]

WORKER = """
import json, sys
from bluegreen.catalog.models import Service
from bluegreen.core.colors import Color
from bluegreen.core.ports import Credentials
from bluegreen.deployers.ssh_hosts import SshDeployer
service, key = json.loads(sys.stdin.read())
credentials = Credentials("root", extra={"private_key": key})
SshDeployer(Service.model_validate(service), lambda _: credentials).deploy(Color.GREEN, "2.0", 4, "run@4")
"""


@pytest.fixture
def make(tmp_path):
    with ExitStack() as stack:
        yield lambda **deploy: stack.enter_context(far_hosts_rig(tmp_path, **deploy))


@pytest.fixture
def lines():
    return []


def pid_in(file):
    return soon_pid_in(file, 20)


def sh(script):
    """A command whose ``$0`` is the host's folder."""
    return ["sh", "-c", script, "FOLDER/$HOST"]


def deploy(rig, lines=None, version="2.0", epoch=4, release=RELEASE, wait=0.3):
    log = (lambda _: None) if lines is None else lines.append
    deployer = SshDeployer(rig.service, rig.secrets, log, timedelta(seconds=wait))
    return deployer.deploy(GREEN, version, epoch, release)


def before(monkeypatch, do, act, once=True):
    """Do something right before a step reaches its host."""
    ask, done = FarHost._ask, []

    async def asked(self, what, *more, **words):
        if what == do and not (once and done):
            done.append(what)
            act(self)
        return await ask(self, what, *more, **words)

    monkeypatch.setattr(FarHost, "_ask", asked)


# What hosts get


def test_commands_are_told_what_and_where_and_their_output_comes_with_the_hosts_name(make, lines):
    rig = make(commands=[sh('echo "$SERVICE $COLOR $VERSION $EPOCH $RELEASE $HOST"; echo "$TARGETS"'), sh(SCRIPT)])
    assert deploy(rig, lines) == Deployed("2.0", 2, 2)
    for host in rig.hosts:
        mine = [line for line in lines if line.startswith(f"{host}: ")]
        targets = " ".join(site.url for site in rig.sites[GREEN].values())
        told = [f"shop green 2.0 4 run@4 {host}", targets, f"deploying 2.0 as {host}"]
        assert mine == [f"{host}: {line}" for line in told]


def test_output_comes_while_the_command_runs(make):
    rig, came = make(count=1, commands=[sh(f"echo one; sleep 0.5; echo two; {SCRIPT}")]), {}
    deployer = SshDeployer(rig.service, rig.secrets, lambda line: came.setdefault(line.split()[-1], time.monotonic()))
    deployer.deploy(GREEN, "2.0", 4, RELEASE)
    assert came["two"] - came["one"] > 0.4


def test_words_are_replaced_in_arguments_and_paths_and_nothing_else_is(make, tmp_path, lines):
    (tmp_path / "app-2.0").write_text("two")
    echo = ["echo", "shop@$COLOR", "${VERSION}x", "$VERSIONS", "$HOME", "$$"]
    upload = [{"from": "FOLDER/app-$VERSION", "to": "FOLDER/$HOST/$SERVICE/app-${VERSION}"}]
    rig = make(count=1, upload=upload, commands=[echo, sh(SCRIPT)])
    deploy(rig, lines)
    assert f"{rig.hosts[0]}: shop@green 2.0x $VERSIONS $HOME $$" in lines
    assert rig.on(rig.hosts[0], "shop", "app-2.0").read_text() == "two"


def test_a_version_that_would_be_more_than_a_word_is_refused_before_anything(make):
    rig = make(count=1, commands=[sh('echo "$VERSION"')])
    with pytest.raises(DeployError, match=r"version '1;reboot' cannot stand in .* nothing was touched"):
        deploy(rig, version="1;reboot")
    assert not rig.fence(rig.hosts[0]).exists()


def test_steps_come_in_their_order(make, tmp_path):
    (tmp_path / "app").write_text("app")
    rig = make(
        count=1,
        upload=[{"from": "FOLDER/app", "to": "FOLDER/$HOST/app"}],
        commands=[sh('cat "$0/app" > "$0/order"; echo one >> "$0/order"'), sh(f'echo two >> "$0/order"; {SCRIPT}')],
        restart=sh('echo restart >> "$0/order"'),
    )
    deploy(rig)
    assert rig.on(rig.hosts[0], "order").read_text() == "appone\ntwo\nrestart\n"


def test_a_large_file_and_a_folder_arrive_as_they_are(make, tmp_path):
    (tmp_path / "big").write_bytes(os.urandom(1_500_000))
    (tmp_path / "tree" / "bin").mkdir(parents=True)
    (tmp_path / "tree" / "bin" / "app").write_bytes(bytes(range(256)))
    (tmp_path / "tree" / "bin" / "app").chmod(0o755)
    (tmp_path / "tree" / "current").symlink_to("bin")
    uploads = [{"from": "FOLDER/big", "to": "FOLDER/$HOST/big", "mode": "0600"}]
    rig = make(upload=[*uploads, {"from": "FOLDER/tree", "to": "FOLDER/$HOST/new/tree"}])
    deploy(rig)
    for host in rig.hosts:
        assert rig.on(host, "big").read_bytes() == (tmp_path / "big").read_bytes()
        assert rig.on(host, "big").stat().st_mode & 0o7777 == 0o600
        assert rig.on(host, "new", "tree", "current", "app").read_bytes() == bytes(range(256))
        assert rig.on(host, "new", "tree", "bin", "app").stat().st_mode & 0o7777 == 0o755


def test_an_upload_that_is_cut_leaves_what_was_there(make, monkeypatch):
    rig = make(count=1, upload=[{"from": "FOLDER/app", "to": "FOLDER/$HOST/app"}])
    host = rig.hosts[0]
    (rig.folder / "app").write_text("new")
    rig.on(host, "app").write_text("old")
    before(monkeypatch, "commit", lambda _: rig.sshds[host].cut())
    with pytest.raises(DeployError, match=r"upload .*/app: .* lost"):
        deploy(rig)
    assert rig.on(host, "app").read_text() == "old"
    assert rig.ran(host) == 0
    deploy(rig, wait=10)
    assert rig.on(host, "app").read_text() == "new"


def test_what_is_not_there_to_upload_stops_before_anything(make):
    rig = make(count=1, upload=[{"from": "FOLDER/app-$VERSION", "to": "FOLDER/$HOST/app"}])
    with pytest.raises(DeployError, match=r"there is no .*/app-2.0 to upload; nothing was touched"):
        deploy(rig)
    assert not rig.fence(rig.hosts[0]).exists()


def test_secrets_reach_the_command_only(make, lines):
    check = 'printf %s "$PASSWORD" > "$0/got"; cat /proc/[0-9]*/cmdline 2>&- > "$0/cmdlines"; echo "login $PASSWORD"'
    rig = make(
        commands=[sh(f"{check}; exit 3")],
        diagnose=sh('echo "again $PASSWORD"'),
        secrets={"PASSWORD": "registry"},
        connections={"registry": "s3cret word"},
    )
    with pytest.raises(DeployError) as raised:
        deploy(rig, lines)
    shown = "".join(lines) + str(raised.value) + repr(raised.value) + rig.deployer().diagnose(GREEN)
    assert f"{rig.hosts[0]}: login ***" in lines
    assert "again ***" in shown
    assert "s3cret" not in shown
    for host in rig.hosts:
        assert rig.on(host, "got").read_text() == "s3cret word"
        assert b"s3cret" not in rig.on(host, "cmdlines").read_bytes()


def test_a_missing_secret_stops_before_anything(make):
    rig = make(count=1, secrets={"PASSWORD": "registry"})
    rig.secrets = lambda name: (_ for _ in ()).throw(SecretMissing(f"no connection {name}"))
    with pytest.raises(SecretMissing):
        deploy(rig)
    assert not rig.fence(rig.hosts[0]).exists()


# Which host when

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


# Hosts that are not as they should be


def test_a_host_that_is_down_keeps_every_other_from_being_touched(make):
    rig = make()
    one, two = rig.hosts
    rig.sshds[two].stop()
    with pytest.raises(DeployError) as raised:
        deploy(rig)
    assert f"1 of 2 hosts failed:\n    {two}: root@{two} cannot be reached" in str(raised.value)
    assert f"{one}: as before: nothing was begun" in str(raised.value)
    assert "nothing was touched" in str(raised.value)
    assert not rig.fence(one).exists()


def test_a_changed_host_key_is_said_and_nothing_is_touched(make):
    rig = make()
    rig.sshds[rig.hosts[1]].change_host_key()
    with pytest.raises(DeployError, match="has CHANGED") as raised:
        deploy(rig)
    assert "ssh-keygen" in str(raised.value)
    assert [rig.ran(host) for host in rig.hosts] == [0, 0]


def test_no_python_there_is_said(make):
    rig = make(count=1, python="/no/python3")
    with pytest.raises(DeployError, match=r"there is no /no/python3 on root@"):
        deploy(rig)


def test_a_host_that_is_lost_in_the_middle_is_named_and_the_others_too(make):
    rig = make(commands=[sh(f'echo $$ > "$0/pid"; [ -e "$0/last" ] && sleep 60; {SCRIPT}')])
    one, two = rig.hosts
    rig.on(two, "last").touch()

    def cut():
        pid_in(rig.on(two, "pid"))
        rig.sshds[two].cut()

    thread = threading.Thread(target=cut)
    thread.start()
    with pytest.raises(DeployError) as raised:
        deploy(rig)
    thread.join()
    assert f"{two}: command 1 of 1: sh: root@{two} was lost in the middle" in str(raised.value)
    assert f"{one}: 2.0 is there" in str(raised.value)
    assert gone(pid_in(rig.on(two, "pid")))


def test_without_asyncssh_the_targets_can_be_asked_and_a_deploy_says_what_to_install(make, monkeypatch):
    rig = make(count=1)
    for module in ("bluegreen.hosts.ssh_session", "bluegreen.hosts.ssh_login", "bluegreen.deployers.ssh_hosts"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setitem(sys.modules, "asyncssh", None)
    assert rig.deployer().status(GREEN) == Deployed(None, 0, 1)
    with pytest.raises(DeployError, match=r"asyncssh is not installed here\n; nothing was touched; pip install"):
        rig.deployer().deploy(GREEN, "2.0", 4, RELEASE)


# The fence of each host


def test_each_host_has_its_own_record(make):
    rig = make()
    deploy(rig)
    records = [json.loads(rig.fence(host).read_text().splitlines()[0]) for host in rig.hosts]
    assert [(r["epoch"], r["release"], r["done"]) for r in records] == [(4, RELEASE, "2.0")] * 2


def test_a_newer_claim_on_one_host_stops_all_of_them(make):
    rig = make()
    with HostFence(str(rig.fence(rig.hosts[1]).parent), "shop", "green").enter(5, "newer@5", 0):
        pass
    with pytest.raises(DeployFenced, match=r"fence has epoch 5 of newer@5 .*found epoch 4") as raised:
        deploy(rig)
    assert "nothing was touched" in str(raised.value)
    assert [rig.ran(host) for host in rig.hosts] == [0, 0]


def test_an_older_deploy_that_runs_is_waited_for_and_named(make):
    rig = make(count=1)
    fence = HostFence(str(rig.fence(rig.hosts[0]).parent), "shop", "green")
    with fence.enter(3, "older@3", 0), pytest.raises(DeployFenced, match=r"held by epoch 3 of older@3 \(process"):
        deploy(rig)
    with ExitStack() as stack:
        stack.enter_context(fence.enter(3, "older@3", 0))
        timer = threading.Timer(2, stack.pop_all().close)
        timer.start()
        assert deploy(rig, wait=20).ready == 1
        assert timer.finished.is_set()


@pytest.mark.parametrize("step", ["stage", "put", "commit", "run", "finish"])
def test_a_deploy_that_was_overtaken_is_refused_at_each_step(make, monkeypatch, step):
    rig = make(count=1, upload=[{"from": "FOLDER/app", "to": "FOLDER/$HOST/app"}])
    host = rig.hosts[0]
    (rig.folder / "app").write_text("new")
    rig.on(host, "app").write_text("old")

    def overtake(_):
        rig.fence(host).unlink()  # as somebody did who found it in the way
        with HostFence(str(rig.fence(host).parent), "shop", "green").enter(5, "newer@5", 0):
            pass

    before(monkeypatch, step, overtake)
    with pytest.raises(DeployFenced, match=r"epoch 5 of newer@5"):
        deploy(rig)
    assert rig.on(host, "app").read_text() == ("new" if step in ("run", "finish") else "old")
    assert rig.ran(host) == (1 if step == "finish" else 0)
    assert json.loads(rig.fence(host).read_text().splitlines()[0])["epoch"] == 5


def test_a_connection_that_was_lost_is_never_taken_up_again(make, monkeypatch):
    rig = make(count=1, upload=[{"from": "/etc/hostname", "to": "FOLDER/$HOST/app"}])
    before(monkeypatch, "run", lambda _: rig.sshds[rig.hosts[0]].cut())
    with pytest.raises(DeployError, match=r"was lost|is lost"):
        deploy(rig)
    assert rig.deploys() == 0


# Its end


@pytest.mark.parametrize("sudo", [False, True])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_worker_takes_the_remote_group_along_but_no_daemon(make, number, sudo):
    daemon = 'setsid sleep 50 >/dev/null 2>&1 & echo $! > "$0/daemon"; '
    rig = make(
        count=1,
        sudo=sudo,
        fence="FOLDER/fences",
        commands=[sh(daemon + 'sleep 60 & echo $! > "$0/child"; echo $$ > "$0/pid"; wait')],
    )
    host, sshd = rig.hosts[0], rig.sshds[rig.hosts[0]]
    env = {**os.environ, "PYTHONPATH": f"{ROOT}/plugins:{ROOT}"}
    worker = subprocess.Popen([sys.executable, "-c", WORKER], env=env, stdin=subprocess.PIPE, text=True)
    worker.stdin.write(json.dumps([rig.service.frozen(), sshd.private_key]))
    worker.stdin.close()
    pids = [pid_in(rig.on(host, name)) for name in ("child", "pid")]
    daemon = pid_in(rig.on(host, "daemon"))
    try:
        worker.send_signal(number)
        worker.wait()
        assert all(gone(pid, 10) for pid in pids)
        assert not gone(daemon, 0)
        with Fence(rig.folder / "fences", "shop", GREEN).enter(5, "next@5", timedelta(seconds=10)):
            assert sshd.programs() == []
    finally:
        os.kill(daemon, signal.SIGKILL)


def test_a_cancelled_task_takes_the_remote_group_along(make):
    rig = make(count=1, commands=[sh('sleep 60 & echo $! > "$0/child"; wait')])
    child = rig.on(rig.hosts[0], "child")

    def cancel(*_):
        raise Cancelled

    def alarm():
        pid_in(child)
        os.kill(os.getpid(), signal.SIGALRM)

    handler = signal.signal(signal.SIGALRM, cancel)
    thread = threading.Thread(target=alarm)
    thread.start()
    try:
        with pytest.raises(Cancelled):
            deploy(rig)
    finally:
        signal.signal(signal.SIGALRM, handler)
        thread.join()
    assert gone(pid_in(child), 10)
    assert deploy_again(rig)


def deploy_again(rig):
    """The fence is free soon."""
    with HostFence(str(rig.fence(rig.hosts[0]).parent), "shop", "green").enter(5, "next@5", 10):
        return True


def test_a_command_has_time_to_clean_up_when_the_connection_ends(make):
    rig = make(count=1, commands=[sh('trap \'echo > "$0/clean"; exit\' TERM; echo $$ > "$0/pid"; sleep 60 & wait')])
    host = rig.hosts[0]

    def cut():
        pid_in(rig.on(host, "pid"))
        rig.sshds[host].cut()

    thread = threading.Thread(target=cut)
    thread.start()
    with pytest.raises(DeployError):
        deploy(rig)
    thread.join()
    assert gone(pid_in(rig.on(host, "pid")))
    assert rig.on(host, "clean").exists()


def test_a_command_that_does_not_end_is_ended_there(make):
    rig = make(count=1, timeout="400ms", commands=[sh('echo begun; echo $$ > "$0/pid"; sleep 60 & wait')])
    with pytest.raises(DeployError, match=r"did not end within 0.4 s and was killed; its last lines:\s+begun"):
        deploy(rig)
    assert gone(pid_in(rig.on(rig.hosts[0], "pid")))


# Retire and diagnose


def retire(rig, epoch=4, lines=None):
    log = (lambda _: None) if lines is None else lines.append
    SshDeployer(rig.service, rig.secrets, log, timedelta(seconds=0.3)).retire(GREEN, epoch)


def test_retire_goes_on_where_a_host_is_down_and_names_it(make):
    rig = make()
    one, two = rig.hosts
    deploy(rig)
    rig.sshds[one].stop()
    with pytest.raises(DeployError) as raised:
        retire(rig)
    assert f"1 of 2 hosts failed:\n    {one}: " in str(raised.value)
    assert not rig.on(two, "green.version").exists()
    assert rig.on(one, "green.version").exists()


def test_retire_without_a_command_says_so(make, lines):
    retire(make(count=1, retire=None), lines=lines)
    assert "no retire command" in lines[0]


def test_diagnose_asks_each_host_and_never_fails(make, monkeypatch):
    monkeypatch.setattr("bluegreen.deployers.health_wait.DIAGNOSE_TIMEOUT", timedelta(seconds=0.5))
    rig = make(diagnose=sh('echo "log of $HOST"; [ -e "$0/slow" ] && sleep 60; seq 1 5000'))
    one, two = rig.hosts
    rig.on(one, "slow").touch()
    text = rig.deployer().diagnose(GREEN).splitlines()
    assert f"{one}: log of {one}" in text
    assert f"{one}: sh: did not end within 0.5 s and was killed" in text
    assert f"{two}: log of {two}" in text
    assert len(text) <= 200
    rig.sshds[two].stop()
    assert f"{two}: root@{two} cannot be reached" in rig.deployer().diagnose(GREEN)
    assert not rig.fence(one).exists()


def test_diagnose_runs_while_somebody_holds_the_fence(make):
    rig = make(count=1)
    fence = HostFence(str(rig.fence(rig.hosts[0]).parent), "shop", "green")
    with fence.enter(3, "older@3", 0), suppress(DeployError):
        assert f"log of green on {rig.hosts[0]}" in rig.deployer().diagnose(GREEN)


# Roles

VERSIONS = {Color.BLUE: "1.0", GREEN: "2.0"}


def test_a_role_stops_on_the_hosts_of_one_color_and_starts_on_those_of_the_other(make):
    rig = make(count=3, apart=True)
    blue, *green = rig.hosts
    rig.deployer().run_roles(Color.BLUE, 1, "run@1", VERSIONS)
    assert rig.processes[blue].runs("worker") == {Color.BLUE}
    rig.deployer().run_roles(GREEN, 2, "run@1", VERSIONS)
    assert rig.processes[blue].runs("worker") == set()
    assert [rig.processes[host].runs("worker") for host in green] == [{GREEN}] * 2
    assert rig.deployer().roles() == {"worker": GREEN, "cron": GREEN}


def test_a_role_is_not_started_while_a_host_where_it_may_run_is_not_reached(make):
    rig = make(apart=True)
    blue, green = rig.hosts
    rig.deployer().run_roles(Color.BLUE, 1, "run@1", VERSIONS)
    rig.sshds[blue].stop()
    with pytest.raises(DeployError) as raised:
        rig.deployer().run_roles(GREEN, 2, "run@1", VERSIONS)
    assert f"{blue}: root@{blue} cannot be reached" in str(raised.value)
    assert "it may still run on blue, so it was not started on green" in str(raised.value)
    assert not any(move.startswith("start") for move in rig.processes[green].moves())
    assert rig.deployer().roles() == {"worker": None, "cron": None}
    rig.sshds[green].stop()
    with pytest.raises(DeployError, match="2 of 2 hosts failed"):
        rig.deployer().roles()


def test_hosts_that_differ_are_half_way(make):
    rig = make(apart=True)
    rig.deployer().run_roles(Color.BLUE, 1, "run@1", VERSIONS)
    folder = rig.fence(rig.hosts[1]).parent
    with HostFence(str(folder), "shop", "worker").enter(2, "run@1", 0) as held:
        held.finish("green")
    assert rig.deployer().roles() == {"worker": None, "cron": Color.BLUE}


def test_who_moves_a_role_at_this_moment_is_waited_for_and_named(make):
    rig = make(apart=True)
    folder = str(rig.fence(rig.hosts[1]).parent)
    deployer = SshDeployer(rig.service, rig.secrets, lambda _: None, timedelta(seconds=0.3))
    with (
        HostFence(folder, "shop", "worker").enter(1, "run@1", 0),
        pytest.raises(DeployFenced, match=r"held by epoch 1 of run@1"),
    ):
        deployer.run_roles(GREEN, 2, "run@1", VERSIONS)
    assert rig.processes[rig.hosts[1]].runs("worker") == set()
    assert rig.processes[rig.hosts[1]].runs("cron") == {GREEN}


def test_without_roles_no_host_is_asked(make):
    rig = make(count=1, roles={})
    rig.sshds[rig.hosts[0]].stop()
    assert rig.deployer().roles() == {}
    rig.deployer().run_roles(GREEN, 2, "run@1", VERSIONS)
