"""Where reports lie: one JSON and one Markdown file a run, each of them whole or not there."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from tempfile import NamedTemporaryFile
from urllib.parse import quote

from bluegreen.release.report import Kind, Report
from bluegreen.release.report_text import markdown

VARIABLE = "BLUEGREEN_REPORTS"
LONGEST_NAME = 200


def reports_folder() -> Path:
    """Return ``$BLUEGREEN_REPORTS``, or ``reports`` in Airflow's home."""
    home = Path(os.environ.get("AIRFLOW_HOME") or "~/airflow").expanduser()
    return Path(os.environ.get(VARIABLE) or home / "reports")


def file_name(kind: Kind, run: str) -> str:
    """
    Return a name for any run id, without ending: what a file system may not like is written as ``%3A``.

    No two runs share one. ``@`` stands in no encoded run id: a rollback's name is no release's, a shortened one no
    other's.
    """
    safe = quote(run, safe="")
    safe = safe.replace(".", "%2E", 1) if safe.startswith(".") else safe
    if len(safe) > LONGEST_NAME:
        safe = f"{safe[: LONGEST_NAME - 32]}@{hashlib.sha256(run.encode()).hexdigest()[:24]}"
    return safe if kind == "release" else f"rollback@{safe}"


def write(report: Report, folder: Path) -> Path:
    """
    Write both files; an earlier report of the same run is replaced.

    :returns: the Markdown file
    :raises OSError: the folder cannot be written
    """
    told = report.as_json()
    place = folder / report.service
    place.mkdir(parents=True, exist_ok=True)
    path = place / file_name(report.kind, report.run)
    _whole(place, path.name + ".json", json.dumps(told, indent=2, ensure_ascii=False) + "\n")
    return _whole(place, path.name + ".md", markdown(told))


def _whole(folder: Path, name: str, text: str) -> Path:
    with NamedTemporaryFile("w", dir=folder, prefix=".", suffix=".part", delete=False, encoding="utf-8") as file:
        part = Path(file.name)
        try:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
            part.chmod(0o644)  # others read reports; a temporary file is its owner's alone
            return part.replace(folder / name)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
