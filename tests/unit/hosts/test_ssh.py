"""Host programs over a real sshd: one session for many calls, strict keys, and each fault with its own sentence."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import asyncssh
import psutil
import pytest

from bluegreen.catalog.models import Ssh
from bluegreen.core.env_secrets import EnvironmentSecrets
from bluegreen.core.errors import SecretMissing
from bluegreen.core.ports import Credentials
from bluegreen.hosts.host_files import Trouble
from bluegreen.hosts.places import Place, place_of
from bluegreen.hosts.ssh_login import LOGINS_AT_ONCE
from bluegreen.hosts.ssh_session import OverSsh, Session
from demo.processes import wait_until
from tests.rigs import far_program
from tests.rigs.sshd import Sshd, a_user

PYTHON = "/usr/bin/python3"
HIDDEN = "hunter2"


def place(at: Sshd, credentials: Credentials | None = None, patience: float = 10, **ssh: Any) -> OverSsh:
    return OverSsh(far_program, at.ssh(**{"python": PYTHON} | ssh), credentials or at.credentials(), patience)


def trouble(of: Place, kind: str, do: str = "who", **arguments: Any) -> Trouble:
    with pytest.raises(Trouble) as error:
        of.call(do, **arguments)
    assert (error.value.kind, bool(error.value.mend)) == (kind, True), error.value.fact
    return error.value


def gone(pid: int) -> None:
    wait_until(lambda: not psutil.pid_exists(pid), 8, f"process {pid} ended")


# One session


def test_many_calls_share_one_connection_and_one_program(host: Sshd) -> None:
    far = place(host)
    assert {far.call("who")[0] for _ in range(5)} == {host.programs()[0].pid}
    assert len(host.programs()) == 1
    assert far.name == f"root@127.0.0.1:{host.port}"


def test_nothing_is_connected_to_before_the_first_call(host: Sshd) -> None:
    before = set(host.sessions())  # of the test before, which may still be ending
    far = place(host)
    assert set(host.sessions()) <= before
    far.call("who")
    assert len(set(host.programs()) - before) == 1


def test_the_programs_own_trouble_comes_back_as_it_is(host: Sshd) -> None:
    far = place(host)
    refused = trouble(far, "conflict", "refuse")
    assert (refused.fact, refused.mend) == ("somebody was here: ä", "read again")
    assert "unexpected KeyError" in trouble(far, "refused", "stumble").fact
    assert far.call("big", size=2) == "xx"


def test_a_login_and_a_call_leave_the_log_to_others(host: Sshd, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    place(host).call("who")
    assert caplog.messages == []


def test_an_answer_may_be_longer_than_the_channels_window(host: Sshd) -> None:
    assert len(place(host).call("big", size=5_000_000)) == 5_000_000


def test_what_the_program_and_its_children_print_and_read_is_not_ours(host: Sshd) -> None:
    far = place(host)
    assert [far.call("noisy"), far.call("noisy")] == [0, 0]


def test_threads_share_a_place(host: Sshd) -> None:
    far = place(host)
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda size: len(far.call("big", size=size)), range(40))) == list(range(40))
    assert len(host.programs()) == 1


def test_an_async_call_does_not_hold_the_loop_up(host: Sshd) -> None:
    far = place(host)

    async def both() -> int:
        call, ticks = asyncio.create_task(far.acall("sleep", seconds=0.5)), 0
        while not call.done():
            await asyncio.sleep(0.01)
            ticks += 1
        assert call.result() == "slept"
        return ticks

    assert asyncio.run(both()) > 10


def test_a_call_that_is_cancelled_leaves_no_answer_for_the_next(host: Sshd) -> None:
    far = place(host)
    far.call("who")

    async def cancelled() -> Any:
        with suppress(TimeoutError):
            await asyncio.wait_for(far.acall("sleep", seconds=1), 0.3)
        return await far.acall("big", size=3)

    assert asyncio.run(cancelled()) == "xxx"


def test_a_busy_place_is_not_waited_for_without_end(host: Sshd, tmp_path: Path) -> None:
    far, flag = place(host), tmp_path / "began"
    with ThreadPoolExecutor(1) as pool:
        long = pool.submit(far.call, "sleep", seconds=2, flag=str(flag))
        wait_until(flag.exists, 10, "the call has begun")
        far.patience = 0.3
        assert "busy with another call for more than 0.3 s" in trouble(far, "unreachable").fact
        assert long.result() == "slept"


def test_a_forked_child_logs_in_by_itself_and_holds_nothing_of_its_parents(host: Sshd) -> None:
    far = place(host)
    ours = far.call("who")[0]

    def child() -> Any:
        held = [one for one in psutil.Process().net_connections() if one.raddr and one.raddr.port == host.port]
        return len(held), far.call("who")[0]

    held, its = _as_child(child)
    assert held == 0
    assert its != ours
    assert far.call("who")[0] == ours


def _as_child(work: Callable[[], Any]) -> Any:
    """Fork, without another user."""
    out, into = os.pipe()
    child = os.fork()
    if not child:
        with suppress(BaseException):
            os.write(into, json.dumps(work()).encode())
        os._exit(0)
    os.close(into)
    with os.fdopen(out) as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    return json.loads(said)


def test_a_place_that_nobody_holds_any_more_ends_its_program(host: Sshd) -> None:
    far = place(host)
    pid = far.call("who")[0]
    with suppress(Trouble):
        far.call("refuse")
    del far
    gone(pid)


def test_a_process_that_ends_leaves_no_program_and_says_nothing(host: Sshd, tmp_path: Path) -> None:
    script = tmp_path / "caller.py"
    script.write_text(
        "import sys\nfrom bluegreen.catalog.models import Ssh\nfrom bluegreen.core.ports import Credentials\n"
        "from bluegreen.hosts.ssh_session import OverSsh\nfrom tests.rigs import far_program\n"
        f"ssh = Ssh.model_validate({host.section(python=PYTHON)!r})\n"
        f"key = {host.private_key!r}\n"
        "far = OverSsh(far_program, ssh, Credentials('root', extra={'private_key': key}))\n"
        "print(far.call('who')[0])\n"
    )
    command = [sys.executable, "-X", "dev", "-W", "ignore::DeprecationWarning", script]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=True, env={**os.environ, "PYTHONPATH": "plugins:."}
    )
    slow = re.compile(r"Executing <Task .* took [\d.]+ seconds")  # said of a machine that is busy, not of us
    assert [line for line in done.stderr.splitlines() if not slow.match(line)] == []
    gone(int(done.stdout))


# The right host


def test_ssh_host_key_unknown_is_refused_never_trusted_on_first_use(host: Sshd) -> None:
    host.known_hosts.write_text("# nobody yet\n")
    for _ in range(2):
        said = trouble(place(host), "refused")
        assert f"the host key of root@127.0.0.1:{host.port} is not known" in said.fact
        assert _fingerprint(host) in said.fact
        assert f"ssh-keyscan -p {host.port} 127.0.0.1 >> {host.known_hosts}" in said.mend
    assert host.known_hosts.read_text() == "# nobody yet\n"


def test_what_the_error_says_makes_the_host_known(host: Sshd) -> None:
    host.known_hosts.write_text("")
    said = trouble(place(host), "refused")
    subprocess.run(said.mend.partition("then ")[2], shell=True, check=True, capture_output=True)  # noqa: S602
    assert place(host).call("big", size=1) == "x"


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa"])
def test_ssh_host_key_changed_is_refused_with_another_sentence(host: Sshd, kind: str) -> None:
    known = _fingerprint(host)
    far = place(host)
    far.call("who")
    host.change_host_key(kind)
    said = trouble(far, "refused")
    assert f"the host key of root@127.0.0.1:{host.port} has CHANGED" in said.fact
    assert "somebody may be in between" in said.fact
    assert known in said.fact
    assert _fingerprint(host) in said.fact
    subprocess.run(said.mend.partition("then ")[2], shell=True, check=True, capture_output=True)  # noqa: S602
    assert far.call("big", size=1) == "x"
    host.change_host_key()


def _fingerprint(host: Sshd) -> str:
    told = subprocess.run(
        ["ssh-keygen", "-lf", host.folder / "host_key.pub"], check=True, capture_output=True, text=True
    )
    return told.stdout.split()[1]


def test_a_key_that_is_known_for_another_port_says_nothing(host: Sshd) -> None:
    host.known_hosts.write_text(f"127.0.0.1 {host.host_key}\n[127.0.0.1]:{host.port + 1} {host.host_key}\n")
    assert "is not known" in trouble(place(host), "refused").fact


def test_hashed_known_hosts_are_read(host: Sshd) -> None:
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", host.known_hosts], check=True, capture_output=True)
    assert "127.0.0.1" not in host.known_hosts.read_text()
    assert place(host).call("big", size=1) == "x"


def test_a_revoked_host_key_is_refused(host: Sshd) -> None:
    line = host.known_hosts.read_text()
    host.known_hosts.write_text(f"{line}@revoked {line}")
    assert "revoked" in trouble(place(host), "refused").fact


def test_known_hosts_that_cannot_be_read(host: Sshd, tmp_path: Path) -> None:
    said = trouble(place(host, known_hosts=str(tmp_path / "none")), "refused")
    assert said.fact == f"the known hosts {tmp_path / 'none'} cannot be read: No such file or directory"


def test_the_connections_own_host_key_counts_instead_of_known_hosts(host: Sshd) -> None:
    host.known_hosts.write_text("")
    extra = {"private_key": host.private_key, "host_key": host.host_key}
    assert place(host, host.credentials(extra=extra)).call("big", size=1) == "x"
    other = " ".join(host.make_key("other").with_suffix(".pub").read_text().split()[:2])
    said = trouble(place(host, host.credentials(extra={**extra, "host_key": other})), "refused")
    assert "has CHANGED" in said.fact
    assert "host_key of connection far_hosts" in said.mend
    said = trouble(place(host, host.credentials(extra={**extra, "host_key": "ssh-rsa nonsense"})), "refused")
    assert said.fact == "host_key of connection far_hosts holds no host key"


def test_no_connection_can_switch_the_host_key_check_off(host: Sshd) -> None:
    host.known_hosts.write_text("")
    extra = {"private_key": host.private_key, "no_host_key_check": "true", "allow_host_key_change": "true"}
    assert "is not known" in trouble(place(host, host.credentials(extra=extra)), "refused").fact


# Our login


def test_key_file_and_passphrase(host: Sshd) -> None:
    path = host.make_key("locked_key", "-N", HIDDEN)
    with (host.folder / "authorized_keys").open("a") as file:
        file.write(path.with_suffix(".pub").read_text())
    text = path.read_text()
    for key in ({"key_file": str(path)}, {"private_key": text}):
        assert place(host, host.credentials(extra={**key, "private_key_passphrase": HIDDEN})).call("who")[1] == 0
        said = trouble(place(host, host.credentials(extra={**key, "private_key_passphrase": "x"})), "refused")
        assert "does not open with its private_key_passphrase" in said.fact
        assert "needs a passphrase" in trouble(place(host, host.credentials(extra=key)), "refused").fact


def test_a_private_key_that_is_none_is_not_shown(host: Sshd, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    credentials = host.credentials(extra={"private_key": f"-----BEGIN {HIDDEN}"}, password=HIDDEN)
    far = place(host, credentials)
    said = trouble(far, "refused")
    assert "what connection far_hosts gives as a private key is none" in said.fact
    assert HIDDEN not in f"{said.fact}{said.mend}{said!r}{far!r}{far.login!r}{caplog.text}"


def test_key_file_that_is_not_there(host: Sshd) -> None:
    said = trouble(place(host, host.credentials(extra={"key_file": "/no/such/key"})), "refused")
    assert said.fact == "key_file /no/such/key of connection far_hosts cannot be read: No such file or directory"


def test_wrong_login_names_host_user_and_method(host: Sshd) -> None:
    said = trouble(place(host, host.credentials("somebody")), "refused")
    assert said.fact == "127.0.0.1 does not let somebody in; tried connection far_hosts: its private key"
    assert "~somebody/.ssh/authorized_keys" in said.mend


def test_a_password_logs_in_and_is_never_said(odd_host: Sshd, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    logging.getLogger("asyncssh").setLevel(logging.DEBUG)
    asyncssh.set_debug_level(2)
    crypt = subprocess.run(["openssl", "passwd", "-6", HIDDEN], check=True, capture_output=True, text=True)
    # The first value counts: before the file's own.
    odd_host.first = ("PasswordAuthentication yes",)
    with odd_host, a_user(crypt.stdout.strip()) as user:
        good = place(odd_host, Credentials(user, HIDDEN))
        assert good.call("who")[1] != 0
        bad = place(odd_host, Credentials(user, f"{HIDDEN}!"))
        said = trouble(bad, "refused")
        assert said.fact == f"127.0.0.1 does not let {user} in; tried connection far_hosts: its password"
    logging.getLogger("asyncssh").setLevel(logging.WARNING)
    asyncssh.set_debug_level(1)
    assert "password" in caplog.text  # the library has said something
    assert HIDDEN not in f"{said.fact}{said.mend}{good!r}{bad!r}{bad.login!r}{caplog.text}"


def test_without_a_connection_our_own_key_and_known_hosts_are_used(
    host: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    fields = {"connection": None, "known_hosts": None}
    far = OverSsh(far_program, host.ssh(python=PYTHON, **fields))
    assert "is not known" in trouble(far, "refused").fact
    (tmp_path / ".ssh").mkdir()
    shutil.copy(host.known_hosts, tmp_path / ".ssh/known_hosts")
    assert "tried the keys of our own user and its agent" in trouble(far, "refused").fact
    shutil.copy(host.folder / "client_key", tmp_path / ".ssh/id_ed25519")
    assert far.call("who")[1] == 0


def test_the_commands_secrets_file_can_hold_a_key(host: Sshd, tmp_path: Path) -> None:
    file = tmp_path / "secrets.yaml"
    entry = {"login": "root", "host": "elsewhere", "port": "22", "extra": {"private_key": host.private_key}}
    file.write_text(json.dumps({"far_hosts": entry}))
    file.chmod(0o600)
    far = place_of(host.ssh(python=PYTHON), far_program, EnvironmentSecrets({"BLUEGREEN_SECRETS": str(file)}))
    assert far.call("big", size=1) == "x"


def test_a_connection_that_is_missing_is_this_hosts_trouble_only(host: Sshd) -> None:
    def none(connection_id: str) -> Credentials:
        raise SecretMissing("there is no such Airflow connection", part=connection_id, next_step="add it")

    far = place_of(host.ssh(), far_program, none)
    assert trouble(far, "refused").fact == "no login for 127.0.0.1: there is no such Airflow connection"
    with pytest.raises(Trouble):
        asyncio.run(far.acall("who"))


def test_without_asyncssh_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("ssh_session", "ssh_login"):
        monkeypatch.delitem(sys.modules, f"bluegreen.hosts.{module}", raising=False)
    monkeypatch.setitem(sys.modules, "asyncssh", None)
    said = trouble(place_of(Ssh(host="lb1"), far_program), "refused")
    assert (said.fact, said.mend) == ("asyncssh is not installed here", "pip install 'airflow-blue-green[ssh]'")


# Hosts that are away


def test_port_closed(host: Sshd) -> None:
    said = trouble(place(host, port=1), "unreachable")
    assert said.fact == "root@127.0.0.1:1 cannot be reached: Connection refused"
    assert "ssh -p 1 root@127.0.0.1 true" in said.mend


def test_name_unknown(host: Sshd) -> None:
    assert "cannot be reached" in trouble(place(host, host="no-such-host.invalid"), "unreachable").fact


def test_slow_host_that_does_not_let_in(host: Sshd) -> None:
    host.freeze()
    said = trouble(place(host), "unreachable")
    host.thaw()
    assert "did not let us in within 5 s" in said.fact


def test_slow_host_whose_python_does_not_start(host: Sshd, tmp_path: Path) -> None:
    slow = _script(tmp_path / "slow", "sleep 30")
    assert f"{slow} did not start on root@127.0.0.1" in trouble(place(host, python=slow), "unreachable").fact


def test_slow_host_that_does_not_answer_in_time(host: Sshd) -> None:
    far = place(host, patience=0.5)
    said = trouble(far, "unreachable", "sleep", seconds=2)
    assert "was lost in the middle of a call: no answer within 0.5 s" in said.fact
    assert said.mend == "whether it was done is not known; read again"
    assert far.call("big", size=4) == "xxxx"


@pytest.mark.parametrize("how", ["silent", "cut"])
def test_host_gone_in_the_middle_of_a_call(host: Sshd, tmp_path: Path, how: str) -> None:
    far, flag = place(host, patience=60), tmp_path / "began"
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(far.call, "sleep", seconds=30, flag=str(flag))
        wait_until(flag.exists, 10, "the call has begun")
        began = time.monotonic()
        (host.freeze if how == "silent" else host.cut)()
        error = call.exception()
        waited = time.monotonic() - began
    host.thaw()
    assert isinstance(error, Trouble)
    assert error.kind == "unreachable"
    assert "was lost in the middle of a call" in error.fact
    assert waited < 20  # by the keepalive, not by the call's own 60 s
    assert far.call("big", size=1) == "x"


def test_a_program_that_is_killed_in_the_middle_is_named(host: Sshd, tmp_path: Path) -> None:
    far, flag = place(host), tmp_path / "began"
    pid = far.call("who")[0]
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(far.call, "sleep", seconds=30, flag=str(flag))
        wait_until(flag.exists, 10, "the call has begun")
        os.kill(pid, 9)
        error = call.exception()
    assert isinstance(error, Trouble)
    assert "the program there was ended by SIGKILL" in error.fact


def test_a_connection_that_died_between_calls_is_made_anew(host: Sshd) -> None:
    far = place(host)
    first = far.call("who")[0]
    host.cut()
    gone(first)  # its input has ended
    assert far.call("who")[0] != first
    second = far.call("who")[0]
    os.kill(second, 9)
    gone(second)
    assert far.call("who")[0] != second


def test_many_services_on_one_host_do_not_crowd_its_sshd(host: Sshd) -> None:
    # An sshd drops the eleventh connection that is not logged in yet; here nobody ever gets so far.
    with socket.create_server(("127.0.0.1", 0), backlog=100) as silent, ThreadPoolExecutor(20) as pool:
        places = [place(host, port=silent.getsockname()[1]) for _ in range(20)]
        errors = [pool.submit(trouble, far, "unreachable") for far in places]
        silent.settimeout(2)
        waiting = []
        with suppress(TimeoutError):
            while True:
                waiting.append(silent.accept()[0])
        assert len(waiting) == LOGINS_AT_ONCE < 10
        silent.close()
        for connection in waiting:
            connection.close()
        assert all("cannot be reached" in error.result().fact for error in errors)


# What must be there


def test_flock_missing_on_the_host_is_no_trouble(odd_host: Sshd, tmp_path: Path) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "python3").symlink_to(PYTHON)
    odd_host.environment = f"SHLVL=2 PATH={folder}"
    with odd_host:
        far = place(odd_host, python="python3")
        assert far.call("on_path", tool="python3") == [str(folder)]
        assert far.call("on_path", tool="flock") == []


def test_python_missing(host: Sshd) -> None:
    said = trouble(place(host, python="python9"), "refused")
    assert f"there is no python9 on root@127.0.0.1:{host.port}" in said.fact
    assert "install Python 3.9 or later, or name it as ssh.python" in said.mend
    assert "there is no python9" in trouble(place(host, python="python9", sudo=True), "refused").fact


def test_python_too_old(host: Sshd, tmp_path: Path) -> None:
    # None is to be had everywhere: a new one that calls itself old, as far as the text can tell.
    old = _script(tmp_path / "old", f'exec {PYTHON} -I -c "import sys; sys.version_info = (3, 8, 18); $3"')
    said = trouble(place(host, python=old), "refused")
    assert f"{old} on root@127.0.0.1:{host.port} is Python 3.8, wanted 3.9 or later" in said.fact


def test_sudo_asks_for_a_password_and_the_line_that_is_said_mends_it(host: Sshd) -> None:
    with a_user() as user:
        far = place(host, host.credentials(user), sudo=True)
        said = trouble(far, "refused")
        assert f"sudo on {user}@127.0.0.1:{host.port} does not just start {PYTHON}" in said.fact
        assert "password" in said.fact
        line = said.mend.removeprefix("add to sudoers there: ")
        assert line == f"{user} ALL=(root) NOPASSWD: {PYTHON}"
        sudoers = Path(f"/etc/sudoers.d/{user}")
        try:
            sudoers.write_text(f"{line}\n")
            pid, user_id = far.call("who")
            assert user_id == 0
            host.cut()
            gone(pid)  # under sudo, too
        finally:
            sudoers.unlink()


def test_sudo_missing(odd_host: Sshd, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    odd_host.environment = f"SHLVL=2 PATH={tmp_path / 'bin'}"
    with odd_host:
        assert "there is no sudo on root@" in trouble(place(odd_host, sudo=True), "refused").fact


def test_a_login_shell_that_prints_before_is_no_trouble(odd_host: Sshd, tmp_path: Path) -> None:
    (tmp_path / ".bashrc").write_text('echo "Welcome to the far host"; echo "{}"; echo "mind the step" >&2\n')
    odd_host.environment = f"SHLVL=0 HOME={tmp_path}"
    with odd_host:
        far = place(odd_host)
        assert far.call("big", size=1) == "x"
        assert "there is no python9" in trouble(place(odd_host, python="python9"), "refused").fact


def test_what_is_missing_there_is_named_also_when_it_ended_before_we_spoke(
    host: Sshd, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = Session.begin

    async def late(self: Session, text: str) -> None:
        await self._process.wait_closed()
        await begin(self, text)

    monkeypatch.setattr(Session, "begin", late)
    assert "there is no python9" in trouble(place(host, python="python9"), "refused").fact


def test_a_login_without_a_shell(host: Sshd) -> None:
    said = trouble(place(host, host.credentials("nobody")), "refused")
    assert "exit code 1" in said.fact
    assert "This account is currently not available" in said.fact


def test_an_sshd_that_opens_no_session(odd_host: Sshd) -> None:
    odd_host.first = ("MaxSessions 0",)
    with odd_host:
        said = trouble(place(odd_host), "refused")
    assert "opens no session after the login" in said.fact
    assert "MaxSessions" in said.mend


def test_a_module_in_the_working_directory_is_not_imported(odd_host: Sshd) -> None:
    home = odd_host.folder / "home"
    with odd_host, a_user(home=home) as user:
        home.mkdir()
        (home / "json.py").write_text("raise SystemExit('caught')\n")
        assert place(odd_host, odd_host.credentials(user)).call("big", size=1) == "x"


def _script(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)
