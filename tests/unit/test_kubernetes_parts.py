"""How Kubernetes' own programs are found and built, tried on the smallest of them."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from demo.kubernetes import plane
from tools.kubernetes import __main__ as command
from tools.kubernetes import build as building
from tools.kubernetes.programs import PARTS, PROGRAMS, find_go, lacking

SHOP = PROGRAMS["shop"]
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    # The compiler's own cache stays where it is: by default it follows the same variable.
    monkeypatch.setenv("GOCACHE", os.environ.get("GOCACHE") or str(Path.home() / ".cache" / "go-build"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)
    return tmp_path / "bluegreen" / "kubernetes"


@pytest.fixture
def go():
    found = find_go()
    if found is None:
        pytest.skip(building.NO_GO)
    return found


def test_what_is_not_built_is_named_with_what_to_do():
    assert lacking("etcd", "kwok") == "not built: etcd, kwok; `make kubernetes` builds them where Go is"
    assert "kube-apiserver" in plane.missing()


def test_a_program_is_built_once_and_linked_under_its_own_name(go, cache):
    assert building.build(SHOP, go, 1)
    assert SHOP.find() == SHOP.path
    made = SHOP.path.stat()
    assert not building.build(SHOP, go, 1)
    assert SHOP.path.stat() == made
    assert SHOP.link.resolve() == SHOP.path.resolve()
    assert sorted(path.name for path in (cache / "built").iterdir()) == [SHOP.path.name]


def test_several_may_build_at_once_and_one_that_fails_leaves_nothing(go, cache, monkeypatch):
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda _: building.build(SHOP, go, 1), range(2)))
    assert os.access(SHOP.path, os.X_OK)
    SHOP.path.unlink()
    monkeypatch.setattr(type(SHOP), "flags", ["-no-such-flag"])
    with pytest.raises(building.subprocess.CalledProcessError):
        building.build(SHOP, go, 1)
    assert SHOP.find() is None


def test_envtests_folder_comes_first(tmp_path, monkeypatch):
    assets = tmp_path / "assets"
    assets.mkdir()
    (assets / "etcd").touch(mode=0o755)
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(assets))
    assert PROGRAMS["etcd"].find() == assets / "etcd"
    assert PROGRAMS["kwok"].find() is None


def test_another_version_is_another_program(monkeypatch):
    before = SHOP.path
    monkeypatch.setattr("tools.kubernetes.programs.FLAGS", ("-trimpath", "-ldflags=-s"))
    SHOP.module.__dict__.pop("key", None)
    assert SHOP.path != before
    SHOP.module.__dict__.pop("key", None)


def test_the_command_lists_and_refuses_what_it_does_not_know(capsys):
    command.main(["--list"])
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(PARTS)
    with pytest.raises(SystemExit):
        command.main(["kubelte"])
    assert "there is no kubelte; there are istio, node, plane" in capsys.readouterr().err


def test_without_go_the_command_says_what_to_do(monkeypatch):
    monkeypatch.setattr(command, "find_go", lambda: None)
    with pytest.raises(SystemExit, match="Go is needed"):
        command.main(["shop"])


def test_every_modules_pins_are_complete():
    for name in {program.module.name for program in PROGRAMS.values()}:
        folder = ROOT / "tools/kubernetes/modules" / name
        assert (folder / "go.mod").exists()
        assert (folder / "go.sum").exists()
