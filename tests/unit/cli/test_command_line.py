"""The command line as a whole: help, usage, errors, and no Airflow."""

import subprocess
import sys
from pathlib import Path

import pytest
import typer

from bluegreen import __version__
from bluegreen.cli import session
from bluegreen.cli.main import app, main

ROOT = Path(__file__).parents[3]
VERBS = ("status", "check", "diagnose", "restore", "guard", "adopt", "init", "lines", "schema", "watch", "migrations")
NESTED = (
    "watch replay",
    "watch simulate",
    "migrations lint",
    "migrations plan",
    "migrations status",
    "migrations dual-write",
)

# Whoever imports Airflow, from anywhere, fails.
WITHOUT_AIRFLOW = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "airflow":
            raise ImportError("there is no Airflow here")
sys.meta_path.insert(0, Blocker())
try:
    import airflow
except ImportError:
    pass
else:
    raise SystemExit("the blocker does not block")
from bluegreen.cli.main import main
sys.exit(main())
"""


def process(*words, **environment):
    return subprocess.run(
        [sys.executable, "-c", WITHOUT_AIRFLOW, *words],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd="/",
        env={"PYTHONPATH": str(ROOT / "plugins"), "PATH": "/usr/bin:/bin", "COLUMNS": "80", **environment},
    )


@pytest.mark.parametrize("verb", ["", *VERBS, *NESTED])
def test_help_fits_a_screen_and_ends_with_an_example(monkeypatch, capsys, verb):
    monkeypatch.setenv("COLUMNS", "80")
    assert main([*verb.split(), "--help"]) == 0
    lines = capsys.readouterr().out.rstrip().splitlines()
    # The prompt needs a line, too; of the list of verbs the usage line and the one below it may scroll off.
    assert len(lines) <= (23 if verb else 25)
    assert max(map(len, lines)) <= 80
    last = " ".join(" ".join(lines).rpartition("Example")[2].split())
    assert f"bluegreen {verb}" in last
    assert not any("..." in line for line in lines if line.strip().startswith(VERBS)), "a cut sentence"


def test_the_verbs_above_are_all_that_there_are():
    assert set(VERBS) == set(typer.main.get_command(app).commands)


def test_the_help_tells_the_exit_codes(capsys):
    main(["--help"])
    assert "Exit: 0 ok, 1 amiss, 2 wrong input, 3 router unreachable; the worst of all." in capsys.readouterr().out


def test_the_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"bluegreen {__version__}\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["stauts"], "No such command 'stauts'"),
        (["status", "--jsn"], "No such option: --jsn"),
        (["guard", "--watch", "soon"], "Invalid value for '--watch': "),
        (["adopt", "shop", "--version", "1", "--reason", "x", "--live", "red"], "Invalid value for '--live': 'red'"),
    ],
)
def test_wrong_usage_is_one_line_and_2(capsys, words, said):
    assert main(words) == 2
    found = capsys.readouterr()
    assert found.err.startswith(f"bluegreen: {said}")
    assert found.err.count("\n") == 1
    assert "--help" in found.err


def test_no_services_folder_is_wrong_input(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("BLUEGREEN_SERVICES", str(tmp_path / "none"))
    assert [main([verb]) for verb in ("status", "check", "guard")] == [2, 2, 2]
    assert capsys.readouterr().err.count(f"bluegreen: {tmp_path}/none: no folder of service files; ") == 3


def test_services_may_stand_after_the_verb(tmp_path, capsys):
    assert main(["status", "--services", str(tmp_path)]) == 2
    assert f"bluegreen: {tmp_path}: no service files" in capsys.readouterr().err


def test_an_unexpected_error_is_one_line_and_debug_shows_where(monkeypatch, tmp_path, capsys):
    def broken(*_, **__):
        raise ZeroDivisionError("ours")

    monkeypatch.setattr("bluegreen.cli.status.chosen", broken)
    words = ["--services", str(tmp_path), "status"]
    assert main(words) == 1
    assert capsys.readouterr().err == "bluegreen: unexpected ZeroDivisionError: ours; bluegreen --debug shows where\n"
    assert main(["--debug", *words]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_who_we_are_without_a_user_name(monkeypatch):
    def nobody():
        raise KeyError("uid 50000")

    monkeypatch.setattr("getpass.getuser", nobody)
    monkeypatch.setattr("os.getuid", lambda: 50000)
    monkeypatch.setattr("socket.gethostname", lambda: "box")
    assert session.who() == "50000@box"


def test_it_works_without_airflow(tmp_path):
    assert process("--help").returncode == 0
    made = process(
        *("--services", str(tmp_path), "init", "shop", "--entry", "http://127.0.0.1:1"),
        *("--node", "lb1=127.0.0.1:1,/none/shop.map,127.0.0.1:1"),
        *("--blue", "http://127.0.0.1:1", "--green", "http://127.0.0.1:1/green"),
    )
    assert (made.returncode, made.stderr) == (0, "")
    for words in (("check", "--catalog"), ("lines", "shop")):
        found = process("--services", str(tmp_path), *words)
        assert (found.returncode, found.stderr) == (0, "")


@pytest.mark.parametrize(
    "words",
    [
        ("status", "shop"),
        ("guard",),
        ("restore", "shop", "--reason", "x"),
        ("adopt", "shop", "--version", "1", "--reason", "x"),
    ],
)
def test_a_real_router_that_is_dead_is_3_and_no_traceback(tmp_path, words):
    text = (ROOT / "include" / "services" / "shop.yaml").read_text()
    for name in ("lb1", "lb2", "shop-blue", "shop-green"):
        text = text.replace(f"{name}:", "127.0.0.1:")
    text = text.replace(":9999", ":1").replace("http://127.0.0.1:8000", "http://127.0.0.1:1", 1)
    text = text.replace("restore_within: 10s", "restore_within: 1s")
    (tmp_path / "shop.yaml").write_text(text)
    found = process("--services", str(tmp_path), *words)
    assert found.returncode == 3, found.stderr
    assert "Traceback" not in found.stderr
    assert "lb1" in found.stdout + found.stderr
