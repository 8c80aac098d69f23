"""What a person sees: progress, notes and tables. Results go to standard output, all else to standard error."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console as RichConsole
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from tal_run.extractors.hooks import Hook, ignore_progress
from tal_run.extractors.wire import printable
from tal_run.pipeline.exits import discard

if TYPE_CHECKING:
    from tal_run.pipeline.detector import VideoResult
    from tal_run.pipeline.query import QueryMatch

BAR_AFTER_S = 1.0
TEXT_LIMIT = 2000

Row = tuple[str, float, float, str, float, str]  # video, from, to, label, score, matched classes


class Console(RichConsole):
    """A console that nobody may be looking at: when its reader goes away, the work does not."""

    def on_broken_pipe(self) -> None:
        """Say no more."""
        self.quiet = True
        discard(self.file)


class Screen:
    """A terminal, or what stands in for one.

    Args:
        quiet: show no progress and no notes.
        verbose: also show what the library logs: which decoder, and why.
    """

    def __init__(self, *, quiet: bool = False, verbose: bool = False) -> None:
        self._out = Console(highlight=False, soft_wrap=False)
        self._err = Console(stderr=True, highlight=False)
        self._err.soft_wrap = not self._err.is_terminal  # lines of a log stay whole
        self._quiet = quiet
        logging.basicConfig(format="%(message)s", level=logging.INFO if verbose else logging.ERROR)

    def say(self, text: str) -> None:
        """A note on what is going on."""
        if not self._quiet:
            self._err.print(_safe(text))

    def error(self, text: str) -> None:
        """What went wrong."""
        self._err.print(f"[red]Error:[/red] {_safe(text)}")

    def matches(self, matches: Sequence[QueryMatch]) -> None:
        """Which classes each query stands for, unless it names one."""
        for match in matches:
            if not match.exact:
                self.say(match.summary())

    @contextmanager
    def progress(self, name: str | None = None) -> Iterator[Hook]:
        """A hook that draws a bar, once the work turns out to take a while; nothing where nobody watches."""
        if self._quiet or not self._err.is_terminal:
            yield ignore_progress
            return
        bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}%"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[rate]}"),
            console=self._err,
            transient=True,
        )
        started = time.monotonic()
        tasks = {}

        def hook(step: str, *, completed: float, total: float | None) -> None:
            elapsed = time.monotonic() - started
            if elapsed < BAR_AFTER_S:
                return
            if step not in tasks:
                bar.start()
                tasks[step] = bar.add_task(_safe(f"{step} {Path(name).name}" if name else step), rate="")
            # completed counts seconds of video while watching: their rate is "times real time"
            rate = f"{completed / elapsed:.0f}x real time" if step == "watching" else ""
            bar.update(tasks[step], completed=completed, total=total, rate=rate)

        try:
            yield hook
        finally:
            bar.stop()

    def detections(
        self,
        results: Mapping[str, VideoResult],
        matches: Sequence[QueryMatch],
        *,
        on_stderr: bool = False,
        is_written: bool = False,
    ) -> None:
        """A table on a terminal; tab-separated rows (video, from, to, label, score, matched classes) when piped.

        Not if it is quiet and the results are written elsewhere.
        """
        console = self._err if on_stderr else self._out
        if is_written and self._quiet:
            return
        matched = {match.query: ", ".join(f"{c.label} {c.affinity:.2f}" for c in match.classes) for match in matches}
        rows: list[Row] = [
            (name, found.start_s, found.end_s, found.label, found.score, matched.get(found.label, found.label))
            for name, result in results.items()
            for found in result.detections
        ]
        if console.is_terminal:
            self._table(console, rows, several=len(results) > 1, asked=bool(matches))
        elif not on_stderr:
            for name, start_s, end_s, label, score, classes in rows:
                fields = (name, f"{start_s:.2f}", f"{end_s:.2f}", label, f"{score:.3f}", classes)
                click.echo("\t".join(printable(field, limit=TEXT_LIMIT) for field in fields))
        self._remarks(results, matches)

    def table(self, heads: Sequence[str], rows: Sequence[Sequence[str]], *, dim: Sequence[bool] = ()) -> None:
        """Rows of text under headings on a terminal; tab-separated and without them when piped.

        Args:
            heads: of the columns.
            rows: a cell each.
            dim: for each row, whether it is of less account.
        """
        if not self._out.is_terminal:
            for row in rows:
                click.echo("\t".join(printable(cell, limit=TEXT_LIMIT) for cell in row))
            return
        table = Table(*heads, box=None, header_style="bold", pad_edge=False)
        for number, row in enumerate(rows):
            table.add_row(*map(_safe, row), style="dim" if dim and dim[number] else None)
        self._out.print(table)

    def _table(self, console: Console, rows: Sequence[Row], *, several: bool, asked: bool) -> None:
        if not rows:
            return
        table = Table(box=None, header_style="bold", pad_edge=False)
        if several:
            table.add_column("video", overflow="fold")
        for heading in ("from", "to"):
            table.add_column(heading, justify="right", no_wrap=True)
        table.add_column("label", overflow="fold")
        table.add_column("score", justify="right", no_wrap=True)
        if asked:
            table.add_column("matched classes", overflow="fold")
        for name, start_s, end_s, label, score, classes in rows:
            cells = [clock(start_s), clock(end_s), _safe(label), f"{score:.2f}"]
            table.add_row(*([_safe(name)] if several else []), *cells, *([_safe(classes)] if asked else []))
        console.print(table)

    def _remarks(self, results: Mapping[str, VideoResult], matches: Sequence[QueryMatch]) -> None:
        for name, result in results.items():
            where = f"{name}: " if len(results) > 1 else ""
            for note in result.notes:
                self.say(f"{where}note: {note}")
            found = {detection.label for detection in result.detections}
            missing = [f'"{match.query}"' for match in matches if match.classes and match.query not in found]
            if missing:
                self.say(f"{where}nothing like {', '.join(missing)} was found")
            if not matches and not found:
                self.say(f"{where}no class stood out")


def _safe(text: str) -> str:
    """Text from file names, files and queries, that can neither command a terminal nor be taken for rich's markup."""
    return escape(printable(text, limit=TEXT_LIMIT))


def clock(seconds: float) -> str:
    """Seconds as players show them: 0:07.2, 1:02:07.2."""
    tenths = round(seconds * 10)
    minutes, tenths = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    tail = f"{tenths // 10:02d}.{tenths % 10}"
    return f"{hours}:{minutes:02d}:{tail}" if hours else f"{minutes}:{tail}"
