"""One Python text of a host program and what it imports of ours, for a far host that has nothing but its Python."""

from __future__ import annotations

import inspect
import json
from types import ModuleType

from bluegreen.hosts import host_files, host_stamp

BOOT = "import json,os,sys;calls=os.fdopen(os.dup(0));exec(json.loads(calls.readline()))"
"""What ``python3 -I -c`` is to run: the first line of its input is the text, each further line is a call."""

READY = "bluegreen: ready on Python "
"""What the first line of ours begins with; a login shell may have said anything before it."""

OLDEST = (3, 9)

_SHARED = (host_files, host_stamp)

# BOOT and this much must be readable by any Python, so that an old one can say how old it is.
_LOAD = """\
import json, os, sys, types
answers = os.fdopen(os.dup(1), "w")
answers.write({ready!r} + "%d.%d\\n" % sys.version_info[:2])
answers.flush()
if sys.version_info < {oldest!r}:
    sys.exit(0)
for source, target in ((os.open(os.devnull, os.O_RDONLY), 0), (2, 1)):
    os.dup2(source, target)
for name, source in json.loads({sources!r}).items():
    whole = ""
    for part in name.split("."):
        parent, whole = whole, (whole + "." + part).lstrip(".")
        if whole not in sys.modules:
            sys.modules[whole] = types.ModuleType(whole)
            sys.modules[whole].__path__ = []
        if parent:
            setattr(sys.modules[parent], part, sys.modules[whole])
    exec(compile(source, name, "exec"), sys.modules[name].__dict__)
program, shared = sys.modules[{program!r}], sys.modules[{shared!r}]
shared.CALLER[:] = calls, answers
"""

# Who asked may be gone: what was begun is done, and nobody hears of it.
SERVE = """\
for line in iter(calls.readline, ""):
    answer = json.dumps(shared.answer(program.FUNCTIONS, json.loads(line)))
    try:
        answers.write(answer + "\\n")
        answers.flush()
    except BrokenPipeError:
        os._exit(0)
"""


def text(program: ModuleType) -> str:
    """
    Return the program as one text for ``BOOT``.

    It says ``READY`` and its Python's version, then answers each call, a line of JSON, with one line of JSON, before
    which the call may have told more (``host_files.tell``). What else it or its children print goes to standard error. It ends with its input.

    :param program: a module with ``FUNCTIONS`` that imports the standard library, ``hosts.host_*`` and its ``PARTS`` only
    """
    modules = (*_SHARED, *getattr(program, "PARTS", ()), program)
    sources = {module.__name__: inspect.getsource(module) for module in modules}
    load = _LOAD.format(
        ready=READY,
        oldest=OLDEST,
        sources=json.dumps(sources),
        program=program.__name__,
        shared=host_files.__name__,
    )
    return load + SERVE
