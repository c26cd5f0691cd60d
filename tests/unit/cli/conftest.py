"""The command line over a service in memory."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from bluegreen.cli.main import main
from bluegreen.release import wiring
from tests.unit.release.world import SERVICE, World


@pytest.fixture
def folder(tmp_path):
    return tmp_path


@pytest.fixture
def worlds():
    """By service; a test puts more into it."""
    return {}


@pytest.fixture
def add(folder, worlds):
    """Add a service with a world of its own."""

    def service(name="shop"):
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(SERVICE.frozen() | {"service": name}))
        worlds[name] = World()
        return worlds[name]

    return service


@pytest.fixture
def run(folder, worlds, monkeypatch, capsys):
    """Run one command; returns exit code, stdout and stderr."""

    def ports_for(service, secrets):
        world = worlds[service.service]
        if isinstance(world, Exception):
            raise world
        return world.ports(service)

    def command(*words):
        capsys.readouterr()
        code = main(["--services", str(folder), *words])
        said = capsys.readouterr()
        return SimpleNamespace(code=code, out=said.out, err=said.err)

    monkeypatch.setattr(wiring, "ports_for", ports_for)
    monkeypatch.setattr("bluegreen.cli.session.who", lambda: "me@here")
    for module in ("adopt", "findings", "guard", "restore"):
        monkeypatch.setattr(f"bluegreen.cli.{module}.who", lambda: "me@here")
    return command


ROOT = Path(__file__).parents[3]
