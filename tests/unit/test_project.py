"""Rules about the project itself: names, rooms, sizes, and files that must agree."""

from __future__ import annotations

import ast
import statistics
import sys
from importlib import metadata
from pathlib import Path

import pytest
import yaml

import bluegreen
from bluegreen.core import errors
from demo.haproxy import check_config, haproxy_binary

ROOT = Path(__file__).resolve().parents[2]
MODULES = sorted((ROOT / "plugins/bluegreen").rglob("*.py"))


def functions(paths=MODULES):
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                doc = node.body[0].end_lineno - node.body[0].lineno + 1 if ast.get_docstring(node) else 0
                yield f"{path.name}:{node.name}", node.end_lineno - node.lineno + 1 - doc


def test_no_module_has_the_name_of_an_installed_package_or_of_the_standard_library():
    installed = {name for names in metadata.packages_distributions() for name in [names]} | set(sys.stdlib_module_names)
    own = {path.stem for path in MODULES if path.stem != "__init__"}
    # Airflow imports plugin files under their bare stem where .airflowignore is lost.
    assert own & installed == set()


def test_every_module_says_what_its_room_is_for():
    assert [path.name for path in MODULES if not ast.get_docstring(ast.parse(path.read_text()))] == []


def test_functions_and_files_stay_small():
    sizes = sorted(size for _, size in functions())
    longest = max(functions(), key=lambda pair: pair[1])
    assert statistics.median(sizes) <= 9
    assert sizes[int(len(sizes) * 0.9)] <= 25
    assert longest[1] <= 50, longest
    # haproxy_host.py is one file on purpose: it is the program that runs on a node's host, whole.
    files = [path for path in MODULES if path.name != "haproxy_host.py"]
    assert max((len(path.read_text().splitlines()), path.name) for path in files) < (351, "")


KINDS = {
    name
    for name, kind in vars(errors).items()
    if isinstance(kind, type) and issubclass(kind, errors.BlueGreenError) and kind is not errors.CatalogError
}
FACT_ONLY = {"NoNumber"}
"""A rule's sentence is made around it."""


def test_every_error_says_whose_it_is_and_what_to_do():
    lacking = []
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in KINDS - FACT_ONLY:
                words = {keyword.arg for keyword in node.keywords}
                if "next_step" not in words or not words & {"service", "part"}:
                    lacking.append(f"{path.name}:{node.lineno}: {node.func.id}")
    assert lacking == []


def test_the_changelog_names_the_version():
    assert f"## {bluegreen.__version__}" in (ROOT / "CHANGELOG.md").read_text()
    assert f'version = "{bluegreen.__version__}"' in (ROOT / "pyproject.toml").read_text()


@pytest.fixture
def compose():
    return yaml.safe_load((ROOT / "docker-compose.yaml").read_text())


def test_docker_compose_is_sound(compose):
    services, volumes = compose["services"], set(compose["volumes"])
    assert {"scheduler", "dag-processor", "triggerer", "api-server", "lb1", "lb2", "shop-blue", "shop-green"} <= set(
        services
    )
    for name, service in services.items():
        assert "image" in service or "build" in service, name
        for mount in service.get("volumes", []):
            source = mount.split(":")[0]
            assert (ROOT / source).exists() if source.startswith(".") else source in volumes, f"{name}: {mount}"
        assert set(service.get("depends_on", {})) <= set(services), name
    for config in compose["configs"].values():
        assert (ROOT / config["file"]).exists()


def test_docker_composes_service_file_and_haproxy_agree(compose):
    shop = yaml.safe_load((ROOT / "include/services/shop.yaml").read_text())
    haproxy = (ROOT / "include/haproxy/compose.cfg").read_text()
    for node in shop["router"]["nodes"]:
        host, _, port = node["socket"].partition(":")
        assert host in compose["services"]
        assert f"stats socket ipv4@0.0.0.0:{port} level admin" in haproxy
        assert node["map"] in haproxy
        assert any(mount.split(":")[1] == str(Path(node["file"]).parent) for mount in compose["x-airflow"]["volumes"])
    for color, backend in shop["router"]["backends"].items():
        assert f"backend {backend}\n" in haproxy
        for target in shop["colors"][color]["targets"]:
            assert f" {target.removeprefix('http://')} check" in haproxy
    for command in (shop["deploy"]["command"], shop["deploy"]["diagnose"]):
        assert (ROOT / command[0].replace("/opt/airflow/", "")).stat().st_mode & 0o111


@pytest.mark.haproxy
def test_real_haproxy_accepts_docker_composes_configuration(tmp_path):
    (tmp_path / "shop.map").write_text("green 0\n")
    text = (ROOT / "include/haproxy/compose.cfg").read_text()
    (tmp_path / "haproxy.cfg").write_text(text.replace("/etc/haproxy/bluegreen", str(tmp_path)))
    check_config(haproxy_binary(), tmp_path / "haproxy.cfg")
