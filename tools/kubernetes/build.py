"""Builds programs and takes custom resource definitions out of their modules: each once."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from threading import get_ident

from tools.kubernetes.programs import Definitions, Program

NO_GO = "Go is needed to build Kubernetes' programs. Without it: envtest's binaries in KUBEBUILDER_ASSETS, but they lack some"


def build(program: Program, go: str, jobs: int) -> bool:
    """
    Build a program where it is not there yet; False where it was.

    Whoever looks while it is built sees none or a whole one.

    :param jobs: how many packages are compiled at a time
    """
    missing = not os.access(program.path, os.X_OK)
    if missing:
        fresh = _fresh(program.path)
        package = "/".join(filter(None, (program.module.source, program.package)))
        _run(program.module.folder, go, "build", "-p", str(jobs), *program.flags, "-o", str(fresh), package)
        fresh.replace(program.path)
    _point(program.link, program.path)
    return missing


def take(definitions: Definitions, go: str) -> bool:
    """Copy definitions out of their module where they are not there yet; False where they were."""
    if definitions.path.exists():
        return False
    module = definitions.module
    told = _run(module.folder, go, "mod", "download", "-json", f"{module.source}@{module.version}")
    fresh = _fresh(definitions.path)
    fresh.mkdir()
    for file in sorted(Path(json.loads(told)["Dir"]).glob(definitions.files)):
        shutil.copyfile(file, fresh / file.name)
    fresh.replace(definitions.path)
    return True


def _run(folder: Path, *command: str) -> str:
    # No C compiler is needed, and what comes out runs in any image. The flags of the caller's environment are not ours.
    env = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly", "GOWORK": "off"}
    return subprocess.run(command, cwd=folder, env=env, check=True, stdout=subprocess.PIPE, text=True).stdout


def _fresh(target: Path) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    return target.with_name(f".{target.name}.{os.getpid()}-{get_ident()}")


def _point(link: Path, target: Path) -> None:
    fresh = _fresh(link)
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(os.path.relpath(target, link.parent))
    fresh.replace(link)
