"""tal-run under Python's audit hooks: ``python audited.py LOG ARGUMENTS...`` runs the command and logs what it does.

A line of JSON each: a file opened to be written, a path made, moved or removed, a connection, a program started, and a name
that an unpickler looked up, which is what makes pickles dangerous. Hooks cannot be taken out again, and see what libraries do
as well, so far as they do it by way of Python. Processes that it starts log the same, by way of ``sitecustomize.py``.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

LOG = "TAL_RUN_TESTS_AUDIT_LOG"

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
PATHS = {  # event -> which of its arguments are paths that change
    **{"os.rename": (0, 1), "os.link": (1,), "os.symlink": (1,), "shutil.move": (1,), "shutil.copyfile": (1,)},
    **dict.fromkeys(("os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.chmod", "os.chown", "shutil.rmtree"), (0,)),
}
OTHERS = frozenset({"pickle.find_class", "socket.connect", "socket.bind", "socket.getaddrinfo", "subprocess.Popen", "os.exec"})


def main() -> None:
    """Log, and run the command line."""
    from tal_run.pipeline.cli import main as command_line

    os.environ[LOG] = os.path.abspath(sys.argv[1])  # noqa: PTH100 - as it is
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(Path(__file__).parent), os.environ.get("PYTHONPATH")]))
    watch(os.environ[LOG])
    sys.argv = ["tal-run", *sys.argv[2:]]
    command_line()


def watch(path: str) -> None:
    """Log what this process does from now on."""
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def write(event: str, *what: Any) -> None:
        shown = [os.fsdecode(part) if isinstance(part, (bytes, os.PathLike)) else str(part) for part in what]
        os.write(log, (json.dumps([event, *shown]) + "\n").encode())

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            if isinstance(flags, int) and flags & WRITING and not isinstance(path, int):
                write(event, _whole(path))
        elif event in PATHS:
            for number in PATHS[event]:
                if not isinstance(arguments[number], int):
                    write(event, _whole(arguments[number]))
        elif event in OTHERS:
            write(event, *arguments[: 2 if event != "subprocess.Popen" else 1])

    sys.addaudithook(hook)


def _whole(path: Any) -> str:
    return os.path.abspath(os.fsdecode(path))  # noqa: PTH100 - without "..", and with links as they are


if __name__ == "__main__":
    main()
