"""``check`` finds each trap of nginx and names its mend: on the guide's own configuration, and one trap at a time."""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest

from bluegreen.catalog.load import read_text
from bluegreen.core.colors import Color
from bluegreen.routers import nginx_config
from demo.nginx import NginxNode
from tests.rigs.people import as_nobody
from tests.unit.routers.conftest import nginx_router_of

pytestmark = [pytest.mark.nginx, pytest.mark.haproxy]
ROOT = Path(__file__).parents[3]

# guide-blue-green.es.txt, "Despliegue Blue-Green Basado en Nginx": as it stands there, but for addresses and TLS.
GUIDE = """
events {{ }}
pid nginx.pid;
http {{
    # Definiciones de upstream
    upstream blue_backend {{
        least_conn;
        server {blue[0]} max_fails=3 fail_timeout=30s;
        server {blue[1]} max_fails=3 fail_timeout=30s;
    }}
    upstream green_backend {{
        least_conn;
        server {green[0]} max_fails=3 fail_timeout=30s;
        server {green[1]} max_fails=3 fail_timeout=30s;
    }}
    # Map para determinar backend activo
    map $http_host $backend {{
        default blue_backend;
        include {map};
    }}
    server {{
        listen 127.0.0.1:{port};
        server_name shop.test;
        location / {{
            proxy_pass http://$backend;
            proxy_set_header Host $host;
            proxy_next_upstream error timeout http_500 http_502 http_503;
        }}
        location /health {{
            access_log off;
            return 200 "healthy\\n";
            add_header Content-Type text/plain;
        }}
    }}
}}
"""
GUIDE_MAP = '# Backend activo (blue o green)\n"" blue_backend;\n'
GUIDE_CANARY = '# Despliegue canary - 10% a green\n"" blue_backend 90;\n"" green_backend 10;\n'
GUIDE_BACKENDS = {"backends": {"blue": "blue_backend", "green": "green_backend"}}


def findings(router: Any) -> dict[str, Any]:
    found = router.check()
    by_code = {finding.code: finding for finding in found}
    assert len(by_code) == len(found), found
    assert all(one.where == f"shop: odd, seen from {socket.gethostname()}" for one in found)
    assert all(one.mend for one in found)
    return by_code


def guide_node(nginx_node: Any) -> NginxNode:
    node: NginxNode = nginx_node()
    backend_map = node.folder / "backend.map"
    node.config_text = GUIDE.format(port=node.entry_port, map=backend_map, **node.backends)
    node.folder.mkdir()
    backend_map.write_text(GUIDE_MAP)
    node.workers = 1
    node.start()
    node.include.unlink()  # nobody has made it yet
    return node


def test_the_guides_own_configuration(nginx_node: Any) -> None:
    node = guide_node(nginx_node)
    found = findings(nginx_router_of(node, router=GUIDE_BACKENDS))
    wanted = {
        "include-file": f"there is no include file {node.include}",
        "include-missing": f"nginx.conf does not include {node.include}: a shift would change nothing",
        "key-never-matches": 'in `map $http_host $backend` the key "" never matches: every request has a Host',
        "health-answered-by-proxy": "nginx answers /health by itself, which says nothing about the servers",
        "workers-pile-up": "old workers stay as long as their slowest client",
        "reload-not-hitless": "resets kept-alive clients that are idle",
        "status-unreachable": f"{node.status} does not answer: Connection refused",
        "no-color-header": "got 200 with X-Release-Color: None, wanted a color",
    }
    assert found.keys() == wanted.keys()
    assert {code for code, words in wanted.items() if words not in found[code].fact} == set()
    assert f"include {node.include};" in found["include-missing"].mend
    assert "proxy_pass http://$shop_pool;" in found["key-never-matches"].mend


def test_the_guides_weighted_map_is_named_with_what_to_write_instead(nginx_node: Any) -> None:
    node = guide_node(nginx_node)
    (node.folder / "backend.map").write_text(GUIDE_CANARY)  # as the guide's script does before `nginx -s reload`
    found = findings(nginx_router_of(node, router=GUIDE_BACKENDS))["weighted-map"]
    assert "invalid number of the map parameters" in found.fact
    assert f"{node.folder / 'backend.map'}:2: " in found.fact
    assert '`"" blue_backend 90;`' in found.fact
    assert 'split_clients "$request_id" $shop_pool {' in found.mend


def test_the_guides_weight_of_0_is_named(nginx_node: Any) -> None:
    node = nginx_node().start()
    node.config_path.write_text(node.render().replace("max_fails=0", "max_conns=0 weight=0", 1))
    found = findings(nginx_router_of(node))
    assert found.keys() == {"weight-0"}
    assert 'invalid parameter "weight=0"' in found["weight-0"].fact
    assert "`down`" in found["weight-0"].mend


def test_configuration_broken_by_someone_else(nginx_node: Any) -> None:
    node = nginx_node().start()
    other = node.folder / "other.conf"
    other.write_text("server {\n    listen 127.0.0.1:1\n}\n")
    node.config_path.write_text(node.render().replace("http {", f"http {{\n include {other};"))
    found = findings(nginx_router_of(node))
    assert found.keys() == {"configuration-broken"}
    assert f"broken by someone else: {other}:3" in found["configuration-broken"].fact


HEADER = "add_header X-Release-Color $shop_color always;"
OUTER = "add_header  X-Release-Color $shop_color always;"  # not taken away with the other
ODD: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "reload-not-hitless": ({"without": ["keepalive_min_timeout 5s;"]}, {}, "without keepalive_min_timeout"),
    "clients-follow-late": (
        {"without": ["keepalive_min_timeout 5s;"], "extra_http": ["keepalive_min_timeout 1m;"]},
        {},
        "`keepalive_min_timeout 1m`: kept-alive clients may stay that long on the old color",
    ),
    "workers-pile-up": ({"without": ["worker_shutdown_timeout 30s;"]}, {}, "worker_shutdown_timeout is not set"),
    "color-header-missing": ({"without": [HEADER]}, {}, "no X-Release-Color is added"),
    "no-color-header": ({"without": [HEADER]}, {}, "with X-Release-Color: None, wanted a color"),
    "color-header-lost": (
        {"without": [HEADER], "extra_server": [OUTER], "extra_location": ["add_header X-Frame-Options DENY;"]},
        {},
        "`add_header X-Release-Color $shop_color always` is lost where",
    ),
    "color-header-not-always": (
        {"without": [HEADER], "extra_location": [HEADER.replace(" always", "")]},
        {},
        "error answers have no X-Release-Color",
    ),
    "log-line-missing": ({}, {"fields": {"log": "/nowhere/shop.log"}}, "no access_log of /nowhere/shop.log"),
    "counters-missing": ({}, {"fields": {"log": "/nowhere/shop.log"}}, "the log /nowhere/shop.log cannot be read"),
    "health-answered-by-proxy": (
        {"extra_server": ["location = /health { return 200; }"]},
        {},
        "nginx answers /health by itself",
    ),
    "unknown-backend": (
        {},
        {"router": {"backends": {"blue": "shop-blue", "green": "shop-purple"}}},
        "nginx knows no upstream shop-purple for green, only shop-blue, shop-green",
    ),
    "servers-differ": (
        {},
        {"colors": {"blue": {"targets": ["http://127.0.0.1:1"]}, "green": {"targets": ["http://127.0.0.1:2"]}}},
        "colors.blue has 127.0.0.1:1",
    ),
    "include-file": (
        {},
        {"fields": {"include": "/nowhere/shop.conf"}},
        "no include file /nowhere/shop.conf: the split",
    ),
    "include-missing": ({}, {"fields": {"include": "/nowhere/shop.conf"}}, "does not include /nowhere/shop.conf"),
    "run-time-differs": ({}, {"fields": {"include": "/nowhere/shop.conf"}}, "there is no include file /nowhere/shop"),
    "status-unreachable": ({}, {"fields": {"status": "http://127.0.0.1:9/shop"}}, "9/shop does not answer"),
    "status-refused": ({}, {"fields": {"status": "http://ENTRY/shop"}}, "wanted the split of shop"),
    "entry-does-not-answer": ({}, {"fields": {"entry": "127.0.0.1:9"}}, "GET / got no answer from the entry"),
    "command-refused": ({}, {"fields": {"command": ("/nowhere/nginx",)}}, "`/nowhere/nginx -v` cannot be run: No such"),
    "redirect": (
        {"extra_server": ["location = / { return 301 https://shop.test/; }"]},
        {},
        "301 to https://shop.test/",
    ),
}


@pytest.mark.parametrize("code", ODD)
def test_one_trap_at_a_time(nginx_node: Any, code: str) -> None:
    node_fields, changes, words = ODD[code]
    node = nginx_node(**node_fields).start()
    fields = {
        key: value.replace("ENTRY", node.entry) if isinstance(value, str) else value
        for key, value in changes.get("fields", {}).items()
    }
    found = [one for one in nginx_router_of(node, **{**changes, "fields": fields}).check() if one.code == code]
    assert found, nginx_router_of(node, **{**changes, "fields": fields}).check()
    assert any(words in one.fact for one in found), found
    assert all(one.mend for one in found)


@pytest.mark.parametrize(
    ("old", "new", "code", "words"),
    [
        ("http://$shop_pool", "http://shop-blue", "routing-lines-missing", "no proxy_pass goes to $shop_pool"),
        ("http://$shop_pool", "http://$shop_pool/", "path-in-pass", "sends every request to that one path"),
        (" if=$upstream_status", " buffer=64k flush=5s", "log-buffered", "would see requests late"),
    ],
)
def test_lines_that_do_something_else(nginx_node: Any, old: str, new: str, code: str, words: str) -> None:
    node = nginx_node()
    node.config_text = node.render().replace(old, new)
    found = findings(nginx_router_of(node.start()))
    assert words in found[code].fact
    assert "$shop_pool" in found[code].mend or "if=$upstream_status" in found[code].mend


def test_a_line_in_a_file_that_is_included_there_is_found_where_it_stands(nginx_node: Any) -> None:
    node = nginx_node(extra_location=["include headers/*.conf;"])
    (node.folder / "headers").mkdir(parents=True)
    (node.folder / "headers" / "a.conf").write_text("# ours\nadd_header X-Frame-Options DENY;\n")
    node.config_text = (
        node.render().replace(f"            {HEADER}\n", "").replace("    server {", f"    {HEADER}\n    server {{")
    )
    found = findings(nginx_router_of(node.start()))
    assert found.keys() == {"color-header-lost", "no-color-header"}
    assert f"{node.folder}/headers/a.conf:2" in found["color-header-lost"].fact


def test_headers_that_are_told_to_be_merged_are_not_lost(nginx_node: Any) -> None:
    node = nginx_node(
        without=[HEADER],
        extra_server=["add_header_inherit merge;", OUTER],
        extra_location=["add_header X-Frame-Options DENY;"],
    )
    assert findings(nginx_router_of(node.start())) == {}


def test_what_this_user_may_not(nginx_node: Any) -> None:
    node = nginx_node().start()
    (node.include.parent / "nginx.lock").touch(mode=0o600)
    router = nginx_router_of(node, fields={"command": ("true",)})  # which says nothing: only the files are asked about
    found = as_nobody(lambda: {(one.code, one.level) for one in router.check()})
    assert {("include-not-writable", "error"), ("in-flight-unknown", "warning")} <= found


def test_node_that_is_down(nginx_node: Any) -> None:
    node = nginx_node()
    node.write_config()
    assert findings(nginx_router_of(node)).keys() == {"status-unreachable", "entry-does-not-answer"}


def test_without_proving_no_request_is_sent(nginx_node: Any) -> None:
    node = nginx_node().start()
    assert nginx_router_of(node, proving=False, fields={"entry": "127.0.0.1:9"}).check() == []


def test_lines_to_add_make_a_good_node(nginx_node: Any) -> None:
    node = nginx_node()
    router = nginx_router_of(node)
    lines, _, initial = nginx_config.lines_to_add(router._catalog, router._router).partition("# The include file")
    node.include.parent.mkdir(parents=True)
    node.include.write_text(initial.split("\n", 1)[1])
    own = f"    server {{\n        listen {node.entry};\n        location / {{"
    node.config_text = "pid nginx.pid;\nevents { }\n" + lines.replace("    server {\n        location / {", own)
    node.workers = 1
    assert findings(nginx_router_of(node.start())) == {}


def test_the_printed_lines_and_the_snippet_in_include_are_the_same_and_nginx_takes_them(nginx_node: Any) -> None:
    snippet = (ROOT / "include" / "nginx" / "shop.conf").read_text()
    text = (ROOT / "include" / "nginx" / "shop.yaml").read_text()
    service = read_text(text, Path("shop.yaml"))
    assert snippet == nginx_config.lines_to_add(service, service.router)
    node = nginx_node()
    node.write_config()
    lines, _, initial = snippet.partition("# The include file")
    (node.folder / "shop.conf").write_text(initial.split("\n", 1)[1])
    lines = lines.replace("/etc/nginx/bluegreen/shop.conf", "shop.conf").replace("/var/log/nginx", str(node.folder))
    node.config_path.write_text("pid nginx.pid;\nevents { }\n" + lines)
    done = subprocess.run([*node.command, "-t"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_nodes_with_paths_of_their_own_get_lines_of_their_own(nginx_rig: Any) -> None:
    router = nginx_rig.router()
    text = nginx_config.lines_to_add(router._catalog, router._router)
    assert [text.count(f"include {node.include};") for node in nginx_rig.nodes] == [1, 1]
    assert all(f"location = /{router.service} {{" in text for _ in Color)
