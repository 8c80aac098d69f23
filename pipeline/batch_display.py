"""A batch, as a person sees it: a line that moves on a terminal, a line now and then in a log, a summary at the end."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich.progress import BarColumn, Progress, TextColumn

from tal_run.extractors.wire import printable
from tal_run.pipeline.batch import Outcome
from tal_run.pipeline.batch_videos import FoundVideo
from tal_run.pipeline.screen import Console, Screen, clock

LOG_EVERY_S = 30.0
DRAWN_A_SECOND = 4


class BatchDisplay:
    """Progress of a batch. A context manager: inside, the line is there.

    Args:
        screen: for notes and errors.
        videos: all that are to be seen to.
        quiet: nothing but errors.
        is_chatty: a line for each video that is done.
        name: of the job.
    """

    def __init__(
        self,
        screen: Screen,
        videos: Sequence[FoundVideo],
        *,
        quiet: bool = False,
        is_chatty: bool = False,
        name: str = "batch",
    ) -> None:
        self._screen, self._is_quiet, self._is_chatty = screen, quiet, is_chatty
        self._bytes_left = sum(video.bytes for video in videos)
        self._total = len(videos)
        self.counts: Counter[str] = Counter()
        self._bytes_done = 0.0  # of videos that were watched here
        self._watched_s = 0.0
        self._current: dict[str, tuple[float, float, int]] = {}  # seconds watched, seconds in all, bytes
        self._began_s = self._told_s = time.monotonic()
        console = Console(stderr=True, highlight=False)
        self._progress: Progress | None = None
        if console.is_terminal and not quiet:
            columns = (TextColumn(name), BarColumn(bar_width=24), TextColumn("{task.description}"))
            self._progress = Progress(*columns, console=console, transient=True, auto_refresh=False)
            self._task = self._progress.add_task(self.line(), total=max(1, self._total))

    def __enter__(self) -> Self:
        if self._progress:
            self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._progress:
            self._progress.stop()

    def watching(self, video: FoundVideo, completed_s: float, total_s: float | None) -> None:
        """So much of a video has been watched."""
        self._current[video.name] = completed_s, total_s or completed_s, video.bytes

    def done(self, video: FoundVideo, outcome: Outcome) -> None:
        """A video has been seen to."""
        self.counts[outcome.what] += 1
        seconds, _, _ = self._current.pop(video.name, (0.0, 0.0, 0))
        self._bytes_left -= video.bytes
        if outcome.what in ("done", "failed"):
            self._watched_s += outcome.watched_s or seconds
            self._bytes_done += video.bytes
        for note in outcome.notes:
            self.note(note)
        if outcome.what == "failed":
            is_named = printable(video.name) in outcome.error or video.name in outcome.error
            self.error(outcome.error if is_named else f"{video.name}: {outcome.error}")
        elif self._is_chatty and outcome.what == "done":
            self.note(f"{video.name}: {outcome.detections} found in {clock(outcome.watched_s)}")

    def tick(self) -> None:
        """Time has passed."""
        now_s = time.monotonic()
        every_s = 1 / DRAWN_A_SECOND if self._progress else LOG_EVERY_S
        if now_s - self._told_s < every_s:
            return
        self._told_s = now_s
        if self._progress:
            self._progress.update(self._task, completed=self._total - self.left, description=self.line(), refresh=True)
        elif not self._is_quiet:
            self._screen.say(self.line())

    def error(self, text: str) -> None:
        """What went wrong with a video."""
        if self._progress:
            self._progress.console.print("Error: " + printable(text, limit=2000), markup=False, style="red")
        else:
            self._screen.error(text)

    @property
    def failed(self) -> int:
        """Videos that failed, now or before."""
        return self.counts["failed"] + self.counts["failed before"]

    @property
    def left(self) -> int:
        """Videos that are not seen to."""
        return self._total - sum(self.counts.values())

    def note(self, text: str) -> None:
        """What is going on."""
        if self._is_quiet:
            return
        if self._progress:
            self._progress.console.print(printable(text, limit=2000), markup=False)
        else:
            self._screen.say(text)

    def line(self) -> str:
        """Videos done, failed and left, speed, and time to go."""
        elapsed_s = max(1e-9, time.monotonic() - self._began_s)
        done = self.counts["done"] + self.counts["kept"]
        parts = [f"{done} done", f"{self.failed} failed", f"{self.left} left"]
        watched_s = self._watched_s + sum(seconds for seconds, _, _ in self._current.values())
        if watched_s:
            parts.append(f"{watched_s / elapsed_s:.1f}x real time")
        # sizes are known of all videos, lengths only of those that were opened
        part_bytes = sum(size * seconds / total for seconds, total, size in self._current.values() if total)
        seen_bytes = self._bytes_done + part_bytes
        if seen_bytes and self._bytes_left > 0:
            to_go_s = (self._bytes_left - part_bytes) * elapsed_s / seen_bytes
            parts.append(f"{duration(to_go_s)} to go")
        return ", ".join(parts)

    def summary(self) -> str:
        """What was done, in one line."""
        elapsed_s = time.monotonic() - self._began_s
        parts = [f"{self.counts['done']} done", f"{self.counts['kept']} kept", f"{self.counts['failed']} failed"]
        if before := self.counts["failed before"]:
            parts.append(f"{before} failed before (--retry-failed tries again)")
        if self.left:
            parts.append(f"{self.left} left")
        speed = f", {self._watched_s / elapsed_s:.1f}x real time" if self._watched_s and elapsed_s else ""
        return f"{', '.join(parts)}; {duration(elapsed_s)}{speed}"


def duration(seconds: float) -> str:
    """Seconds for people: ``42 s``, ``1:05:09``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}" if whole >= 3600 else f"{whole // 60}:{whole % 60:02} min"
