"""How commands end: exit statuses, and what is wrong said in a sentence."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO

import click

DONE, SOME_FAILED, WRONG_USE, STOPPED = 0, 1, 2, 130


class WrongUse(click.ClickException):
    """Arguments that cannot be carried out (exit status 2)."""

    exit_code = WRONG_USE

    def __init__(self, message: str) -> None:
        from tal_run.extractors.wire import printable

        super().__init__(printable(message, limit=2000))  # it may quote a name that commands a terminal


def discard(stream: IO[str]) -> None:
    """Let what a stream still holds, and is given from now on, go nowhere: nobody reads it, or its disk is full.

    Else each later flush fails again, the interpreter's last one too, which then ends with a status of its own.
    """
    with suppress(OSError, ValueError):  # it may be no file
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)


@contextmanager
def errors_as_wrong_use() -> Iterator[None]:
    """What goes wrong inside ends the command with its sentence and status 2."""
    from tal_run.extractors.errors import TalRunError

    try:
        yield
    except BrokenPipeError:
        raise  # who reads along has seen enough (`| head`): click ends quietly
    except (TalRunError, OSError, ValueError) as error:
        raise WrongUse(str(error)) from error
