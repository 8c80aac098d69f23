"""How library code reports progress: it calls a hook, and only the command line draws (as pyannote's ``ProgressHook``)."""

from __future__ import annotations

from typing import Protocol


class Hook(Protocol):
    """Called as work advances."""

    def __call__(self, step: str, *, completed: float, total: float | None) -> None:
        """Report that ``completed`` of ``total`` (None: unknown) units of ``step`` are done."""


def ignore_progress(step: str, *, completed: float, total: float | None) -> None:
    """The hook of those who do not watch."""
