"""Finding and reading service files."""

import os
from datetime import timedelta
from pathlib import Path

import pytest

from bluegreen.catalog import load
from bluegreen.catalog.load import load_all, load_file, load_service, read_text, services_folder
from bluegreen.catalog.models import Service
from bluegreen.core.colors import Color
from bluegreen.core.errors import CatalogError
from tests.unit.catalog.test_bad_files import GOOD


@pytest.fixture
def folder(tmp_path):
    for name in ("cart", "shop"):
        (tmp_path / f"{name}.yaml").write_text(GOOD.replace("service: shop", f"service: {name}"))
    return tmp_path


def test_a_good_file_is_its_service(folder):
    service = load_file(folder / "shop.yaml")
    assert service.service == "shop"
    assert service.release.lease == timedelta(seconds=60)
    assert service.router.backends == {Color.BLUE: "shop-blue", Color.GREEN: "shop-green"}
    assert Service.model_validate(service.frozen()) == service


def test_a_byte_order_mark_does_no_harm(folder):
    (folder / "shop.yaml").write_text(GOOD, encoding="utf-8-sig")
    assert load_file(folder / "shop.yaml").service == "shop"


def test_anchors_and_merge_keys_are_read_as_yaml_means_them():
    text = GOOD.replace("    - name: lb1", "    - &first\n      name: lb1").replace(
        "  backends:", "    - {<<: *first, name: lb2, socket: lb2:9999}\n  backends:"
    )
    first, second = read_text(text, Path("shop.yaml")).router.nodes
    assert (second.name, second.socket, second.map) == ("lb2", "lb2:9999", first.map)


def test_an_error_in_a_merged_part_names_the_line_where_it_stands():
    text = GOOD.replace("    - name: lb1", "    - &first\n      name: lb1").replace("map: /etc", "map: 5 #")
    text = text.replace("  backends:", "    - {<<: *first, name: lb2}\n  backends:")
    with pytest.raises(CatalogError) as error:
        read_text(text, Path("shop.yaml"))
    assert [(problem.line, problem.key) for problem in error.value.problems] == [
        (12, "router.nodes[0].map"),
        (12, "router.nodes[1].map"),
    ]


def test_an_error_in_what_overrides_a_merged_part_names_its_own_line():
    text = GOOD.replace("    - name: lb1", "    - &first\n      name: lb1")
    text = text.replace("  backends:", "    - <<: *first\n      name: lb2\n      map: 5\n  backends:")
    with pytest.raises(CatalogError) as error:
        read_text(text, Path("shop.yaml"))
    assert [(problem.line, problem.key) for problem in error.value.problems] == [(16, "router.nodes[1].map")]


def test_what_yaml_1_1_would_change_stays_a_text():
    text = GOOD.replace("The shop", "2026-11-23").replace("tags: [demo]", "tags: [1:30, 0x1F, =, 1_000]")
    service = read_text(text, Path("shop.yaml"))
    assert service.description == "2026-11-23"
    assert service.tags == ("1:30", "0x1F", "=", "1_000")


def test_a_key_is_a_text_also_where_yaml_reads_true_or_a_number():
    text = GOOD.replace("- path: /health", "- path: /health\n    headers: {On: a, 1: b}")
    assert read_text(text, Path("shop.yaml")).smoke[0].headers == {"On": "a", "1": "b"}


def test_ids_of_connections_and_expected_answers_are_no_secrets():
    text = GOOD.replace("  command: [deploy.sh]", "  command: [deploy.sh]\n  secrets: {DB_PASSWORD: shop_db}")
    text = text.replace("- path: /health", "- path: /health\n    json: {token: null, has_password: true}")
    service = read_text(text, Path("shop.yaml"))
    assert service.deploy.secrets == {"DB_PASSWORD": "shop_db"}
    assert service.smoke[0].json_equals == {"token": None, "has_password": True}


def test_a_file_that_is_not_there(folder):
    with pytest.raises(CatalogError) as error:
        load_file(folder / "cat.yaml")
    assert (
        str(error.value) == f"{folder}/cat.yaml: cannot be read: no such file or directory; look at its name and mode"
    )


def test_a_broken_file_takes_no_other_away(folder):
    (folder / "broken.yaml").write_text(GOOD.replace("share: 10", "share: 0").replace("max: 5", "max: -1"))
    (folder / "dangling.yaml").symlink_to(folder / "gone")
    (folder / "garbage.yaml").write_bytes(b"\xff\x00")
    catalog = load_all(folder)
    assert list(catalog.services) == ["cart", "shop"]
    assert [Path(error.file).name for error in catalog.errors] == [
        *["broken.yaml"] * 3,
        "dangling.yaml",
        "garbage.yaml",
    ]


def test_a_fault_of_ours_takes_no_file_away(folder, monkeypatch):
    def faulty(path):
        if path.stem == "cart":
            raise RuntimeError
        return load_file(path)

    monkeypatch.setattr(load, "load_file", faulty)
    catalog = load_all(folder)
    assert list(catalog.services) == ["shop"]
    assert "unexpected RuntimeError" in str(catalog.errors[0])


def test_two_files_of_one_service_are_refused_by_name(folder):
    (folder / "shop-2.yaml").write_text(GOOD)
    catalog = load_all(folder)
    assert list(catalog.services) == ["cart", "shop"]
    assert [str(error) for error in catalog.errors] == [
        (
            f"{folder}/shop-2.yaml:1: service: found 'shop', which shop.yaml describes already; "
            "write service: shop-2, or delete this file"
        )
    ]


def test_other_files_are_left_alone_but_yml_is_told(folder):
    for name in ("service.schema.json", "README.md", ".shop.yaml.swp", ".hidden.yaml"):
        (folder / name).write_text("x")
    (folder / "old.yml").write_text(GOOD)
    catalog = load_all(folder)
    assert list(catalog.services) == ["cart", "shop"]
    assert [str(error) for error in catalog.errors] == [f"{folder}/old.yml: found .yml, allowed .yaml; rename the file"]


def test_a_folder_that_is_not_there_is_an_error_of_the_catalog(tmp_path):
    catalog = load_all(tmp_path / "none")
    assert catalog.services == {}
    assert [str(error) for error in catalog.errors] == [
        f"{tmp_path}/none: no folder of service files; name another: --services or BLUEGREEN_SERVICES"
    ]


def test_a_service_is_found_by_its_name(folder):
    (folder / "broken.yaml").write_text("")
    assert load_service(folder, "cart").service == "cart"


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("shpo", "no service 'shpo'; did you mean 'shop'? known: cart, shop"),
        ("zebra", "no service 'zebra'; known: cart, shop"),
        ("../x/shop", "no service '../x/shop'; did you mean 'shop'? known: cart, shop"),
    ],
)
def test_an_unknown_name_lists_the_known(folder, name, sentence):
    with pytest.raises(CatalogError) as error:
        load_service(folder, name)
    assert str(error.value) == f"{folder}: {sentence}"


def test_an_unknown_name_lists_some_of_many(tmp_path):
    for number in range(25):
        (tmp_path / f"s{number:02}.yaml").touch()
    with pytest.raises(CatalogError, match=r"s18, s19 …$"):
        load_service(tmp_path, "zebra")


def test_an_unknown_name_in_an_empty_folder(tmp_path):
    with pytest.raises(CatalogError, match=r"known: none$"):
        load_service(tmp_path, "shop")


def test_the_folder_that_the_environment_names(monkeypatch, tmp_path):
    monkeypatch.setenv("BLUEGREEN_SERVICES", str(tmp_path))
    assert services_folder() == tmp_path


def test_a_named_folder_must_be_there(monkeypatch, tmp_path):
    monkeypatch.setenv("BLUEGREEN_SERVICES", str(tmp_path / "none"))
    with pytest.raises(CatalogError) as error:
        services_folder()
    assert str(error.value) == (
        f"{tmp_path}/none: no folder of service files; make it, or name another: --services or BLUEGREEN_SERVICES"
    )


def test_the_folder_beside_plugins_comes_before_the_one_here(monkeypatch, tmp_path):
    root, here = tmp_path / "root", tmp_path / "here"
    for place in (root, here):
        (place / "include" / "services").mkdir(parents=True)
    monkeypatch.delenv("BLUEGREEN_SERVICES", raising=False)
    monkeypatch.setattr(load, "__file__", str(root / "plugins" / "bluegreen" / "catalog" / "load.py"))
    monkeypatch.chdir(here)
    assert services_folder() == root / "include" / "services"
    (root / "include" / "services").rmdir()
    assert services_folder() == here / "include" / "services"
    (here / "include" / "services").rmdir()
    with pytest.raises(CatalogError) as error:
        services_folder()
    assert str(error.value).startswith(f"{root}/include/services and {here}/include/services: no folder")


@pytest.mark.skipif(os.environ.get("CI") == "slow", reason="measures time")
def test_a_thousand_files_are_read_quickly(tmp_path):
    import time

    for number in range(200):
        (tmp_path / f"s{number}.yaml").write_text(GOOD.replace("service: shop", f"service: s{number}"))
    began = time.process_time()
    assert len(load_all(tmp_path).services) == 200
    # 1.5 ms a file where this was written; the pure-Python parser takes 20 times as long.
    assert time.process_time() - began < 200 * 0.010
