"""Init, lines and schema."""

import pytest
import typer

from bluegreen.catalog.load import load_file
from bluegreen.catalog.schema import schema_text

ANSWERS = (
    *("--entry", "https://shop.example"),
    *("--node", "lb1=lb1:9999,/etc/haproxy/shop.map,lb1:443,/mnt/lb1/shop.map"),
    *("--node", "yes=/run/haproxy.sock,/etc/haproxy/shop.map,lb2:443"),
    *("--blue", "http://b1:8000", "--blue", "http://b2:8000"),
    *("--green", "http://g1:8000"),
)


def test_init_writes_a_file_that_is_good(run, folder):
    found = run("init", "shop", *ANSWERS)
    assert (found.code, found.err) == (0, "")
    assert found.out.startswith(f"{folder}/shop.yaml is written. Next:\n  bluegreen lines shop ")
    service = load_file(folder / "shop.yaml")
    assert service.entry.url == "https://shop.example"
    assert [(node.name, node.socket, str(node.file)) for node in service.router.nodes] == [
        ("lb1", "lb1:9999", "/mnt/lb1/shop.map"),
        ("yes", "/run/haproxy.sock", "None"),
    ]
    assert [len(color.targets) for color in service.colors.values()] == [2, 1]
    assert max(map(len, (folder / "shop.yaml").read_text().splitlines())) <= 120


def test_init_never_overwrites(run, folder):
    (folder / "shop.yaml").write_text("mine")
    found = run("init", "shop", *ANSWERS)
    assert (found.code, found.err) == (
        2,
        (
            f"bluegreen: {folder}/shop.yaml: is there already; "
            "init never overwrites: delete it, or name another: --out FILE\n"
        ),
    )
    assert (folder / "shop.yaml").read_text() == "mine"


def test_init_prints_the_file_and_the_lines_and_writes_nothing(run, folder):
    found = run("init", "shop", "--print", *ANSWERS)
    assert found.out.startswith("# yaml-language-server: $schema=service.schema.json\n")
    assert "# shop: add these lines to haproxy.cfg on lb1, yes." in found.out
    assert list(folder.iterdir()) == []


def test_init_writes_where_it_is_told(run, folder):
    (folder / "other").mkdir()
    run("init", "shop", "--out", str(folder / "other" / "shop.yaml"), *ANSWERS)
    assert load_file(folder / "other" / "shop.yaml").service == "shop"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("shop",), "--entry: is missing; see bluegreen init --help"),
        (("shop", "--entry", "http://x"), "--node: is missing; see bluegreen init --help"),
        (("shop", *ANSWERS, "--node", "lb3"), "--node: found 'lb3'; write NAME=SOCKET,MAP,ENTRY like"),
        (("shop", *ANSWERS, "--node", "lb3=a,,b"), "--node: found 'lb3=a,,b'; write NAME=SOCKET,MAP,ENTRY like"),
        (("Shop", *ANSWERS), "service: found 'Shop', allowed a name of lower-case letters"),
        (("shop", *ANSWERS, "--blue", "b3"), "colors.blue.targets[2]: found 'b3', wanted an address like"),
        (("shop", *ANSWERS, "--out", "other.yaml"), "service: found 'shop' in a file that is called other.yaml"),
        (("shop", *ANSWERS, "--router", "envoy"), "Invalid value for '--router'"),
    ],
)
def test_init_refuses_wrong_input_and_writes_nothing(run, folder, words, said):
    found = run("init", *words)
    assert found.code == 2
    assert said in found.err
    assert list(folder.iterdir()) == []


def test_init_asks_for_what_is_not_given(run, folder, monkeypatch):
    answers = iter(["http://shop", "lb1=lb1:9999,/shop.map,lb1:80", "http://b1", "http://g1"])
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("typer.prompt", lambda *_, **__: next(answers))
    assert run("init", "shop").code == 0
    assert load_file(folder / "shop.yaml").entry.url == "http://shop"


def test_init_that_is_left_without_an_answer_writes_nothing(run, folder, monkeypatch):
    def leave(*_, **__):
        raise typer.Abort

    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("typer.prompt", leave)
    found = run("init", "shop")
    assert (found.code, found.err) == (130, "bluegreen: stopped; nothing more was done\n")
    assert list(folder.iterdir()) == []


def test_lines_are_those_of_the_router(run):
    run("init", "shop", *ANSWERS)
    found = run("lines", "shop")
    assert found.code == 0
    assert "default_backend shop-blue" in found.out
    assert "X-Release-Color green" in found.out


NGINX = (
    *("--router", "nginx", "--entry", "https://pay.example", "--blue", "http://b1:8000", "--green", "http://g1:8000"),
    *("--node", "lb1=/etc/nginx/bluegreen/pay.conf,http://127.0.0.1:9145/pay,/var/log/nginx/pay.log,lb1:443"),
)


def test_init_and_lines_of_nginx(run, folder):
    assert run("init", "pay", *NGINX).code == 0
    service = load_file(folder / "pay.yaml")
    node = service.router.nodes[0]
    assert (str(node.include), node.status) == ("/etc/nginx/bluegreen/pay.conf", "http://127.0.0.1:9145/pay")
    assert (str(node.log), node.entry) == ("/var/log/nginx/pay.log", "lb1:443")
    assert max(map(len, (folder / "pay.yaml").read_text().splitlines())) <= 120
    assert "proxy_pass http://$pay_pool;" in run("lines", "pay").out


def test_init_says_how_a_node_of_nginx_is_written(run):
    found = run("init", "pay", *NGINX[:-1], "lb1=/etc/nginx/pay.conf,http://127.0.0.1:9145/pay")
    assert "--node: found 'lb1=/etc" in found.err
    assert "write NAME=INCLUDE,STATUS,LOG,ENTRY like lb1=/etc/nginx/bluegreen/shop.conf," in found.err


def test_schema_is_printed_or_written(run, tmp_path):
    assert run("schema").out == schema_text()
    path = tmp_path / "x.json"
    assert run("schema", "--out", str(path)).code == 0
    assert path.read_text() == schema_text()


def test_a_folder_that_cannot_be_written(run, tmp_path):
    found = run("schema", "--out", str(tmp_path / "none" / "x.json"))
    assert (found.code, found.err) == (2, f"bluegreen: {tmp_path}/none/x.json: no such file or directory\n")
