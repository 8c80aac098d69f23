"""Segments as video files of their own, and pictures from them, by a process that can be killed (``clip_worker.py``).

Of each clip its file says, in its comment, by which recipe it was made: the video's sha256, from when to when, how. So one
that is there already is kept, made again, or, where it is nobody's or somebody else's, left alone.
"""

from __future__ import annotations

import errno
import json
import math
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from tal_run.extractors.decoder_process import DecoderFailure, DecoderProcess
from tal_run.extractors.files import written_whole
from tal_run.extractors.video import DecodeLimits, VideoError
from tal_run.extractors.video_errors import CAUSES, check_file
from tal_run.extractors.wire import JSONObject, printable
from tal_run.models import Detection
from tal_run.pipeline.outputs import OutputError, cannot_write, file_names, safe_name

COMMAND = (sys.executable, "-P", "-m", "tal_run.pipeline.clip_worker")
RECIPE_VERSION = 1
NAME_BYTES = 80  # of the video's name and of the label in a clip's
MOST_BYTES = 1 << 36  # of a clip
FORMATS = {".mp4": "mp4", ".mkv": "matroska"}


@dataclass(frozen=True, kw_only=True)
class Clip:
    """A stretch of a video to be cut out.

    Attributes:
        found: what is in it.
        start_s: from when, with the margin.
        end_s: until when.
        stem: its file's name without an ending.
    """

    found: Detection
    start_s: float
    end_s: float
    stem: str


@dataclass(frozen=True, kw_only=True)
class CutClip:
    """What became of a clip.

    Attributes:
        path: its file.
        start_s: from when it really is; None: it was there already.
        is_kept: it was there already.
    """

    path: Path
    start_s: float | None = None
    is_kept: bool = False


def planned(name: str, detections: Sequence[Detection], *, duration_s: float, margin_s: float = 0.0) -> list[Clip]:
    """A clip for each detection that lies in the video, by time; ``<video>_<label>_<m-ss.s>-<m-ss.s>``."""
    inside = sorted(
        (found for found in detections if found.start_s < duration_s), key=lambda found: (found.start_s, found.end_s)
    )
    spans = [(max(0.0, found.start_s - margin_s), min(duration_s, found.end_s + margin_s)) for found in inside]
    video = safe_name(name, limit=NAME_BYTES) or "video"
    wanted = [
        f"{video}_{safe_name(found.label, limit=NAME_BYTES) or 'action'}_{_clock(start_s)}-{_clock(end_s)}"
        for found, (start_s, end_s) in zip(inside, spans, strict=True)
    ]
    return [
        Clip(found=found, start_s=start_s, end_s=end_s, stem=stem)
        for found, (start_s, end_s), stem in zip(inside, spans, file_names(wanted, "", limit=3 * NAME_BYTES), strict=True)
    ]


def _clock(at_s: float) -> str:
    tenths = round(at_s * 10)
    return f"{tenths // 600}-{tenths // 10 % 60:02d}.{tenths % 10}"


class ClipSource:
    """One video to cut clips from and to take pictures of. Use it as a context manager.

    Args:
        path: the video.
        digest: its sha256, for the recipes of clips.
        limits: what it may cost.

    Raises:
        VideoError: it is not a video that can be read.
    """

    def __init__(self, path: str | os.PathLike[str], *, digest: str = "", limits: DecodeLimits | None = None) -> None:
        self._path, self._shown = check_file(path), printable(os.fspath(path))
        self._digest, self._limits = digest, limits or DecodeLimits()
        self._process: DecoderProcess | None = None
        described = self._answer({}, "video")  # which starts the process, and has it look at the video
        self.duration_s = self._seconds(described, "duration_s")
        if self.duration_s > self._limits.max_duration_s:
            raise self._fail(DecoderFailure("too_long", f"{self.duration_s / 3600:.0f} h"))
        self._endings = {False: str(described.get("copy_ending")), True: str(described.get("exact_ending"))}
        if not set(self._endings.values()) <= set(FORMATS):
            raise self._fail(DecoderFailure("nonsense", "an ending that nobody asked for"))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process at once."""
        if self._process is not None:
            self._process.close()
            self._process = None

    def cut(self, clip: Clip, folder: Path, *, exact: bool = False, again: bool = False) -> CutClip:
        """Write a clip into a folder, whole or not at all, unless it is there.

        Raises:
            VideoError: the video cannot be read there.
            OutputError: something else is in the clip's place, or it cannot be written.
        """
        target = self.target(clip, folder, exact=exact)
        recipe = self._recipe(clip, exact=exact)
        if self.is_kept(clip, folder, exact=exact, again=again):
            return CutClip(path=target, is_kept=True)
        request = {"command": "cut", "start_s": clip.start_s, "end_s": clip.end_s, "exact": exact, "recipe": recipe}
        try:
            with written_whole(target) as part:
                made = self._answer({**request, "target": str(part), "format": FORMATS[target.suffix]}, "clip")
        except OSError as error:
            raise cannot_write(target, error) from error
        return CutClip(path=target, start_s=self._seconds(made, "start_s"))

    def target(self, clip: Clip, folder: Path, *, exact: bool = False) -> Path:
        """A clip's file in a folder."""
        return folder / f"{clip.stem}{self._endings[exact]}"

    def is_kept(self, clip: Clip, folder: Path, *, exact: bool = False, again: bool = False) -> bool:
        """Whether a clip is there, made in the same way.

        Raises:
            OutputError: something else is in its place.
        """
        target = self.target(clip, folder, exact=exact)
        if not target.exists() and not target.is_symlink():
            return False
        if not target.is_file() or target.samefile(self._path):
            raise OutputError(f"{target} is in the way of a clip: choose another folder with -o")
        made_by = self._recipe_of(target)
        if not made_by and not again:
            raise OutputError(
                f"{target} is there, and no clip of tal-run's: choose another folder with -o, or --again to replace it"
            )
        return made_by == self._recipe(clip, exact=exact) and not again

    def _recipe(self, clip: Clip, *, exact: bool) -> str:
        return json.dumps(
            {
                "version": RECIPE_VERSION,
                "sha256": self._digest,
                "start_s": round(clip.start_s, 6),
                "end_s": round(clip.end_s, 6),
                "exact": exact,
            }
        )

    def picture(self, at_s: float, *, short_side: int) -> NDArray[np.uint8]:
        """What is on screen then, [H, W, 3] RGB, the shorter side that long.

        Raises:
            VideoError: the video cannot be read there.
        """
        header, process = self._ask({"command": "picture", "at_s": at_s, "short_side": short_side}, "frames")
        height, width = header.get("height"), header.get("width")
        if type(height) is not int or type(width) is not int or min(height, width) != short_side:
            raise self._fail(DecoderFailure("nonsense", "a picture of another size"))
        if header["payload_bytes"] != height * width * 3 or height * width > self._limits.max_pixels:
            raise self._fail(DecoderFailure("nonsense", "a picture of another size"))
        pixels = np.empty((height, width, 3), np.uint8)
        try:
            process.read_into(pixels)
        except DecoderFailure as failure:
            raise self._fail(failure) from failure
        return pixels

    def _recipe_of(self, path: Path) -> str:
        """By which recipe a file was made; empty: by none of ours."""
        try:
            check_file(path)
        except VideoError:
            return ""
        recipe: Any = self._answer({"command": "described", "path": str(path.absolute())}, "described").get("recipe")
        return recipe if isinstance(recipe, str) else ""

    def _seconds(self, answer: JSONObject, name: str) -> float:
        value = answer.get(name)
        if type(value) is not float or not math.isfinite(value):
            raise self._fail(DecoderFailure("nonsense", f"an answer without {name}"))
        return value

    def _answer(self, request: JSONObject, kind: str) -> JSONObject:
        return self._ask(request, kind)[0]

    def _ask(self, request: JSONObject, kind: str) -> tuple[JSONObject, DecoderProcess]:
        """The answer to a request, and its process; one that fails is ended, and the next request gets a new one."""
        try:
            if self._process is None:
                self._process = DecoderProcess(stall_s=self._limits.stall_s, command=COMMAND)
                self._process.ask(
                    {
                        "command": "probe",
                        "path": str(self._path),
                        "max_pixels": self._limits.max_pixels,
                        "memory_bytes": self._limits.memory_bytes,
                        "file_bytes": MOST_BYTES,
                    }
                )
                answer, payload_bytes = self._process.reply("video")
                if not request:
                    return answer, self._process
            self._process.ask(request)
            answer, payload_bytes = self._process.reply(kind)
        except DecoderFailure as failure:
            raise self._fail(failure) from failure
        return {**answer, "payload_bytes": payload_bytes}, self._process

    def _fail(self, failure: DecoderFailure) -> Exception:
        self.close()
        if failure.cause == "disk":
            return OSError(errno.ENOSPC, str(failure) or os.strerror(errno.ENOSPC))
        return self._error(failure)

    def _error(self, failure: DecoderFailure) -> VideoError:
        if failure.cause == "uncopied":
            return VideoError(f"{self._shown} gives its frames no times, so that its packets cannot be copied: use --exact")
        cause = failure.cause if failure.cause in CAUSES else "nonsense"
        text = CAUSES[cause].format(
            detail=str(failure) or failure.cause,
            max_pixels=self._limits.max_pixels,
            max_hours=self._limits.max_duration_s / 3600,
            memory_gib=self._limits.memory_bytes / 2**30,
            python=sys.executable,
        )
        return VideoError(f"{self._shown} {text}")
