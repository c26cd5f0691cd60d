"""A file that was broken while its release is under way still tells what a restore needs."""

from pathlib import Path

import pytest

from bluegreen.catalog.load import load_all, load_file, load_way_back
from bluegreen.core.errors import CatalogError

SHOP = (Path(__file__).resolve().parents[3] / "include/services/shop.yaml").read_text()


@pytest.mark.parametrize(
    ("found", "broken"),
    [
        ("canary:", "canaries:"),
        ("  timeout: 10m\n", "  timeout: soon\n"),
        ("tags: [demo]", "tags: demo"),
        ("smoke:", "smokes:"),
        ("webhook: null", "webhook: https://hooks.example/1"),
    ],
)
def test_a_break_elsewhere_leaves_the_way_back(tmp_path, found, broken):
    path = tmp_path / "shop.yaml"
    path.write_text(SHOP.replace(found, broken, 1))
    with pytest.raises(CatalogError):
        load_file(path)
    path_back = load_way_back(path)
    (tmp_path / "sound").mkdir()
    (tmp_path / "sound/shop.yaml").write_text(SHOP)
    sound = load_file(tmp_path / "sound/shop.yaml")
    assert (path_back.router, path_back.entry, path_back.colors) == (sound.router, sound.entry, sound.colors)
    assert load_all(tmp_path).way_back == {"shop": path_back}
    assert load_all(tmp_path).services == {}


@pytest.mark.parametrize(
    ("found", "broken"), [("socket: lb1:9999", "socket:"), ("router:", "rooter:"), ("entry:", "\tentry:")]
)
def test_a_break_in_what_a_restore_needs_is_no_way_back(tmp_path, found, broken):
    path = tmp_path / "shop.yaml"
    path.write_text(SHOP.replace(found, broken, 1))
    assert load_way_back(path) is None
    assert load_all(tmp_path).way_back == {}
    assert load_all(tmp_path).errors


def test_a_file_that_is_gone_has_no_way_back(tmp_path):
    assert load_way_back(tmp_path / "shop.yaml") is None


@pytest.mark.parametrize(("webhook", "told"), [("shop_webhook", "shop_webhook"), ("https://hooks.example/1", None)])
def test_people_are_told_of_a_restore_by_a_broken_file_where_that_part_is_sound(tmp_path, webhook, told):
    path = tmp_path / "shop.yaml"
    path.write_text(SHOP.replace("webhook: null", f"webhook: {webhook}").replace("canary:", "canaries:"))
    assert load_way_back(path).notify.webhook == told
