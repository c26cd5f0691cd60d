"""The documents say what is so: YAML, commands and configuration in them are tried, links lead somewhere, lists are whole."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import typer
import yaml

from bluegreen.catalog.load import load_file
from bluegreen.cli.main import app
from bluegreen.core import errors
from bluegreen.core.stamp import Phase
from demo.haproxy import check_config, haproxy_binary
from demo.nginx import nginx_binary
from tests.system.first_service import blocks

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "benchmarks/README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
PLUGINS = ROOT / "plugins" / "bluegreen"
# Fenced blocks that are run elsewhere, by their first words.
RUN_BY = {
    "make demo": "tests/system/test_demo.py",
    "curl -sf -X PATCH": "tests/system/test_approvals.py",
    "make bench": "below: the targets exist",
    "table: users": "tests/unit/migrations/backfill/test_backfill_file.py",
    "[metrics]": "tests/monitoring/test_files.py",
    "frontend metrics": "tests/monitoring/test_files.py",
    "deploy ALL=(root)": "tests/rigs/sshd.py writes this line for real sudo",
}


@dataclass(frozen=True)
class Fence:
    page: str
    line: int
    kind: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def fences() -> list[Fence]:
    found = []
    for page in PAGES:
        text = page.read_text()
        for one in re.finditer(r"^( *)```([^\n]*)\n(.*?)^\1```", text, re.MULTILINE | re.DOTALL):
            line = text[: one.start()].count("\n") + 1
            found.append(Fence(str(page.relative_to(ROOT)), line, one[2].strip(), one[3].strip()))
    return found


FENCES = fences()


def of_kind(kind: str) -> list[pytest.param]:
    return [pytest.param(one, id=str(one)) for one in FENCES if one.kind.split(" ")[0] == kind]


def test_every_block_is_tried_by_somebody():
    readme = (ROOT / "README.md").read_text()
    walked = {block for router in ("haproxy", "nginx") for _, step in blocks(readme, router) for block in step}
    unknown = [
        str(one)
        for one in FENCES
        if one.kind not in ("yaml", "cfg", "nginx", "mermaid") and one.text not in walked and not only_ours(one)
        and not any(one.text.startswith(first) for first in RUN_BY)
    ]  # fmt: skip
    assert unknown == []
    assert all((ROOT / place).exists() for place in RUN_BY.values() if place.endswith(".py") and " " not in place)


def only_ours(fence: Fence) -> bool:
    """Tell whether a block has nothing but commands that are parsed below, as the real ones parse them."""
    lines = logical(fence.text)
    return fence.kind.split(" ")[0] == "sh" and all(re.match(r"(bluegreen|make) [\w-]|#", line) for line in lines)


def logical(text: str) -> list[str]:
    """The lines of a shell block, those that go on with a backslash as one."""
    return [line.strip() for line in text.replace("\\\n", " ").splitlines() if line.strip()]


@pytest.mark.parametrize(
    ("kind", "text", "ours"),
    [
        ("sh", "# look\nbluegreen status pay \\\n  --json", True), ("sh", "make lint\nmake test", True),
        ("sh", "bluegreen status pay\nkubectl get pods", False), ("", "bluegreen status pay", False),
    ],
)  # fmt: skip
def test_a_block_with_a_command_that_is_not_ours_needs_somebody_who_runs_it(kind, text, ours):
    assert only_ours(Fence("a page", 1, kind, text)) == ours


@pytest.mark.parametrize("fence", of_kind("yaml"))
def test_yaml_is_a_service_file_or_sections_of_one(tmp_path, fence):
    whole = yaml.safe_load((ROOT / "include/services/shop.yaml").read_text())
    sections = yaml.safe_load(fence.text)
    assert isinstance(sections, dict)
    (tmp_path / "shop.yaml").write_text(yaml.safe_dump(whole | sections))
    targets = {color: [f"http://{host}:8080" for host in hosts] for color, hosts in HOSTS.items()}
    if "hosts" in sections.get("deploy", {}):  # whose targets are on those hosts
        whole["colors"] = {color: {"targets": urls} for color, urls in targets.items()}
        (tmp_path / "shop.yaml").write_text(yaml.safe_dump(whole | sections))
    assert load_file(tmp_path / "shop.yaml").service == "shop"


HOSTS = {"blue": ["10.0.1.11", "10.0.1.12"], "green": ["10.0.2.11", "10.0.2.12"]}


@pytest.mark.haproxy
@pytest.mark.parametrize("fence", of_kind("cfg"))
def test_haproxy_takes_the_configuration(tmp_path, fence):
    (tmp_path / "pay.map").write_text("green 0\n")
    text = fence.text.replace("/etc/haproxy/bluegreen", str(tmp_path)).replace("/run/haproxy", str(tmp_path))
    (tmp_path / "haproxy.cfg").write_text(f"{text}\n")
    check_config(haproxy_binary(), tmp_path / "haproxy.cfg")
    node = f"lb1={tmp_path}/admin.sock,{tmp_path}/pay.map,lb1:80"
    assert patch_of(tmp_path, "haproxy.cfg", ["--node", node]) == ""


@pytest.mark.nginx
@pytest.mark.parametrize("fence", of_kind("nginx"))
def test_nginx_takes_the_configuration(tmp_path, fence):
    text = fence.text.replace("/etc/nginx/bluegreen", str(tmp_path)).replace("/var/log/nginx", str(tmp_path))
    (tmp_path / "nginx.conf").write_text(f"{text}\n")
    node = f"lb1={tmp_path}/pay.conf,http://127.0.0.1:9145/pay,{tmp_path}/pay-bluegreen.log,lb1:80"
    patch = patch_of(tmp_path, "nginx.conf", ["--node", node])
    subprocess.run(["patch", "-d", "/", "-p0"], input=patch, text=True, check=True, timeout=10, capture_output=True)
    done = subprocess.run(
        [nginx_binary(), "-t", "-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf")],
        capture_output=True, text=True, check=False, timeout=10,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    # The include file before the first start is all that was missing: the page has every line.
    assert [line for line in patch.splitlines() if line.startswith("+++ ")] == [f"+++ {str(tmp_path)[1:]}/pay.conf"]


def patch_of(folder: Path, name: str, words: list[str]) -> str:
    """Return the patch that `lines` has for a configuration of pay, as init describes it."""
    (folder / "services").mkdir()
    entry = ["--entry", "http://pay.example", "--config", str(folder / name)]
    for command in (["init", "pay", *entry, *words], ["lines", "pay", "--patch", "--live", "blue"]):
        done = subprocess.run(
            [str(Path(sys.executable).with_name("bluegreen")), "--services", str(folder / "services"), *command],
            capture_output=True, text=True, check=False, timeout=30,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    return done.stdout


def commands() -> list[pytest.param]:
    """Every `bluegreen …` in prose, tables and blocks."""
    found = []
    for page in PAGES:
        text = page.read_text()
        bare = re.sub(r"^( *)```.*?^\1```", "", text, flags=re.MULTILINE | re.DOTALL)
        spans = re.findall(r"`(bluegreen [^`]+)`", bare)
        spans += re.findall(
            r"^(?:sudo )?(bluegreen .*)$",
            "\n".join(line for one in FENCES if one.page == str(page.relative_to(ROOT)) for line in logical(one.text)),
            re.MULTILINE,
        )
        found += [pytest.param(" ".join(span.split()), id=f"{page.name}: {span[:50]}") for span in spans]
    return found


@pytest.mark.parametrize("text", commands())
def test_the_command_knows_its_verb_and_options(text):
    words = shlex.split(text.split("|")[0].split(">")[0])[1:]
    group = typer.main.get_command(app)
    if words[0].startswith("-"):  # `bluegreen --debug`: an option of all verbs
        assert words[0] in {option for param in group.params for option in param.opts}
        return
    assert words[0] in group.commands, f"there is no bluegreen {words[0]}"
    wrong = refusal(group.commands[words[0]], words)
    # A verb alone may be spoken of without what it needs; a whole command not.
    assert wrong is None or (wrong.startswith("MissingParameter") and len(words) <= 2), wrong


def refusal(verb: object, words: list[str]) -> str | None:
    try:
        verb.make_context(words[0], words[1:])
    except Exception as wrong:  # noqa: BLE001 - typer's own kinds of error have no public name
        return f"{type(wrong).__name__}: {wrong}"
    return None


def test_the_make_targets_exist():
    named = {word for page in PAGES for word in re.findall(r"\bmake ([a-z]+)\b(?=[`\s]|$)", "\n".join(_code(page)))}
    known = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert named - known == set()
    assert named >= {"demo", "test", "airflow", "install", "lint"}


def _code(page: Path) -> list[str]:
    text = page.read_text()
    return re.findall(r"`([^`\n]+)`", text) + [one.text for one in FENCES if one.page == str(page.relative_to(ROOT))]


def anchors(page: Path) -> set[str]:
    heads = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    text = re.sub(r"^( *)```.*?^\1```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    dead = []
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("http://", "https://")):
            continue
        name, _, anchor = target.partition("#")
        there = (page.parent / name).resolve() if name else page
        if not there.exists() or (anchor and anchor not in anchors(there)):
            dead.append(target)
    assert dead == []


def names_in(page: str, section: str) -> set[str]:
    text = (ROOT / "docs" / page).read_text().split(f"\n## {section}\n")[1].split("\n## ", maxsplit=1)[0]
    return {name for row in re.findall(r"^\| (`.*?) \|", text, re.MULTILINE) for name in re.findall(r"`([^`]+)`", row)}


def test_every_phase_and_every_error_is_explained_and_none_that_does_not_exist():
    assert names_in("phases-and-errors.md", "Phases") == {str(phase) for phase in Phase}
    kinds = {
        name
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, errors.BlueGreenError)
    }
    assert names_in("phases-and-errors.md", "Errors") == kinds - {"BlueGreenError", "RouterError"}


ASKED = (
    r"(socket|command|status|include)-(unreachable|refused)"
    r"|cluster-(unreachable|refused|forbidden|missing)|(deployment|destination-rule)-missing"
)


def test_every_finding_is_explained_and_none_that_does_not_exist():
    source = "\n".join(path.read_text() for path in PLUGINS.rglob("*.py"))
    codes = set(re.findall(r"(?:inding|Fault)\(\s*\"([a-z0-9-]+)\"", source))
    explained = names_in("phases-and-errors.md", "What `bluegreen check` finds")
    # What a host program answers is named after the part that was asked: socket-unreachable.
    asked = {name for name in explained if re.fullmatch(ASKED, name)}
    assert explained - asked == codes


def test_the_cost_of_an_error_is_what_its_type_says():
    text = (ROOT / "docs/phases-and-errors.md").read_text()
    for name, cells in re.findall(r"^\| `(\w+)` \| (.*) \|$", text, re.MULTILINE):
        kind = getattr(errors, name, None)
        if isinstance(kind, type):
            again = cells.split(" | ")[1]
            assert again.startswith("yes") == kind.retryable or name == "NoNumber", name
