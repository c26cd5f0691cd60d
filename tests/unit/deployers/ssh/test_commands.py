"""What hosts get: words, uploads, commands in their order, secrets."""

from __future__ import annotations

import os
import time

import pytest

from bluegreen.core.errors import DeployError, SecretMissing
from bluegreen.core.ports import Deployed
from bluegreen.deployers.ssh_hosts import SshDeployer
from tests.rigs.ssh_deploy import SCRIPT
from tests.unit.deployers.ssh.far import GREEN, NEEDS_SSHD, RELEASE, before, deploy, sh

pytestmark = NEEDS_SSHD


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
