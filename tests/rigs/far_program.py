"""A host program for tests: standard library only, as every one."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from bluegreen.hosts.host_files import Trouble


def who():
    return [os.getpid(), os.geteuid()]


def big(size):
    return "x" * size


def sleep(seconds, flag=""):
    if flag:
        Path(flag).touch()
    time.sleep(seconds)
    return "slept"


def noisy():
    """Print, and let a child print and read, as commands of a deployment do."""
    sys.stdout.write("noise\n")
    sys.stdout.flush()
    child = subprocess.run(["cat"], check=True)
    subprocess.run(["echo", "more noise"], check=True)
    return child.returncode


def refuse():
    raise Trouble("conflict", "somebody was here: ä", "read again")


def stumble():
    raise KeyError("oh")


def on_path(tool):
    return [folder for folder in os.environ["PATH"].split(":") if Path(folder, tool).exists()]


FUNCTIONS = {
    "who": who,
    "big": big,
    "sleep": sleep,
    "noisy": noisy,
    "refuse": refuse,
    "stumble": stumble,
    "on_path": on_path,
}
