"""A made data set on the disk: videos, annotations in both usual forms, trimmed clips; the same seed gives the same bytes.

::

    out/
      training/synthetic_stadium_000000.mp4 …   untrimmed, 320x240, 25 frames a second; also validation/ and testing/
      annotations.json                          ActivityNet's form, with "ambiguous" beside "annotations"
      annotations_thumos/LongJump_val.txt …     THUMOS's form
      trimmed/training/synthetic_stadium_clip_000000.mp4 …
      trimmed.csv                               video_id,subset,label,duration_s; background has no label
      recipe.json                               what made it

Every video is whole or not there, and the annotations are written when all videos are. So what was interrupted can be
started again: it goes on where it was. What happens in the videos is ``synthetic_plan``'s matter.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import tempfile
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from fractions import Fraction
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import TYPE_CHECKING

from tal_run.eval.annotations import GroundTruth, TrimmedClip, VideoTruth, write_activitynet, write_clips, write_thumos
from tal_run.extractors.errors import TalRunError
from tal_run.extractors.files import written_whole
from tal_run.extractors.hooks import Hook, ignore_progress

if TYPE_CHECKING:
    from tal_run.eval.synthetic_plan import VideoPlan

FPS = 25
LOOKS = ("stadium", "street")
SHORTEST_S, LONGEST_S = 4.0, 3600.0
PARTS = ("annotations", "synthetic")  # modules that decide what is made begin so
# One thread and no B-frames: the same order everywhere, and times that every reader gets right. No macroblock tree: with
# AVX-512 x264's reads unset memory (MALLOC_PERTURB_=1 shows it), and once in some ten videos gives other bytes.
ENCODER = {"preset": "veryfast", "threads": "1", "bf": "0", "g": "50", "x264-params": "mbtree=0"}
KEPT = "recipe.json"


class SyntheticError(TalRunError):
    """A data set that cannot be made as asked, or not there."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What decides the content of every single video; how many there are does not."""

    look: str
    seed: int
    min_s: float
    max_s: float

    def __post_init__(self) -> None:
        if self.look not in LOOKS:
            raise SyntheticError(f"there is no look {self.look!r}: choose one of {', '.join(LOOKS)}")
        if not SHORTEST_S <= self.min_s <= self.max_s <= LONGEST_S:
            raise SyntheticError(
                f"videos of {self.min_s:g} to {self.max_s:g} s cannot be made: "
                f"the shortest must have {SHORTEST_S:g} s or more, the longest as many, and {LONGEST_S:g} s at most"
            )
        if self.seed < 0:
            raise SyntheticError(f"the seed {self.seed} is negative: give 0 or a positive number")


def synthesize(
    out: str | Path,
    *,
    videos: int,
    seed: int = 0,
    look: str = "stadium",
    trimmed: int = 0,
    min_s: float = 20.0,
    max_s: float = 60.0,
    workers: int = 1,
    hook: Hook = ignore_progress,
) -> GroundTruth:
    """Make a data set in a folder, or go on with it: what is there already is kept.

    Args:
        out: a folder; made if it is not there.
        videos: how many untrimmed videos; the first of them are those of a smaller set.
        seed: another one gives other videos.
        look: ``stadium`` or ``street``.
        trimmed: how many trimmed clips.
        min_s: length of the shortest untrimmed video, seconds.
        max_s: length of the longest.
        workers: how many to make at a time, each in a process of its own.
        hook: is told how many videos are done.

    Returns:
        The truth of the untrimmed videos.

    Raises:
        SyntheticError: the folder holds something else, or cannot be written.
    """
    recipe, out = Recipe(look=look, seed=seed, min_s=min_s, max_s=max_s), Path(out)
    if min(videos, trimmed) < 0 or videos + trimmed < 1 or workers < 1:
        raise SyntheticError(
            f"{videos} videos and {trimmed} clips by {workers} workers cannot be made: "
            "give a video or a clip at least, and a worker"
        )
    try:
        _claim(out, recipe)
        jobs = [_Job(out=out, recipe=recipe, index=index, is_clip=False) for index in range(videos)]
        jobs += [_Job(out=out, recipe=recipe, index=index, is_clip=True) for index in range(trimmed)]
        made: dict[_Job, tuple[VideoTruth, str | None]] = {}
        hook("making videos", completed=0, total=len(jobs))
        for job, result in _done(jobs, workers):
            made[job] = result
            hook("making videos", completed=len(made), total=len(jobs))
        truth = GroundTruth(
            videos=tuple(made[job][0] for job in jobs if not job.is_clip),
            version=f"synthetic {recipe.look}, seed {recipe.seed}",
        )
        _write_annotations(out, truth, [made[job] for job in jobs if job.is_clip])
    except OSError as error:
        raise SyntheticError(
            f"cannot write into {out} ({error.strerror or error}): choose another folder or free space"
        ) from error
    return truth


def fingerprint() -> str:
    """Eight digits that change with the code that decides what is made."""
    here = Path(__file__).parent
    sources = sorted(path for part in PARTS for path in here.glob(f"{part}*.py"))
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in sources)).hexdigest()[:8]


def write_video(plan: VideoPlan, target: Path) -> None:
    """Draw a plan and encode it as H.264 in MP4: 25 frames a second, whole or not at all."""
    import av
    import cv2
    import numpy as np

    from tal_run.eval.synthetic_plan import clip_frames

    target.parent.mkdir(parents=True, exist_ok=True)
    options = {"movflags": "+faststart"}
    with written_whole(target) as part, av.open(str(part), "w", format="mp4", options=options) as container:
        stream = container.add_stream("libx264", rate=FPS, options={**ENCODER, "crf": str(plan.crf)})
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, FPS)
        for index, picture in enumerate(clip_frames(plan)):
            frame = av.VideoFrame.from_ndarray(np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2YUV_I420), np.uint8), "yuv420p")
            frame.pts, frame.time_base = index, Fraction(1, FPS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


@dataclass(frozen=True, kw_only=True)
class _Job:
    """One video to make."""

    out: Path
    recipe: Recipe
    index: int
    is_clip: bool


def _make(job: _Job) -> tuple[VideoTruth, str | None]:
    """Write one video if it is not there; its truth, and a clip's label."""
    from tal_run.eval.synthetic_plan import clip_label, plan_clip, plan_video

    look, seed = job.recipe.look, job.recipe.seed
    if job.is_clip:
        plan = plan_clip(look=look, seed=seed, index=job.index, label=clip_label(job.index))
    else:
        plan = plan_video(look=look, seed=seed, index=job.index, min_s=job.recipe.min_s, max_s=job.recipe.max_s)
    folder = job.out / "trimmed" if job.is_clip else job.out
    target = folder / str(plan.truth.subset) / f"{plan.truth.video_id}.mp4"
    if not target.is_file():
        write_video(plan, target)
    return plan.truth, plan.label


def _done(jobs: Sequence[_Job], workers: int) -> Iterator[tuple[_Job, tuple[VideoTruth, str | None]]]:
    """The jobs as they get done, in any order."""
    if min(workers, len(jobs)) == 1:
        for job in jobs:
            yield job, _make(job)
        return
    # a fresh interpreter each: what holds threads (encoders, OpenCV) must not be forked
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_leave_ctrl_c_to_the_parent) as pool:
        try:
            futures = {pool.submit(_make, job): job for job in jobs}
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BrokenProcessPool as error:
            raise SyntheticError("a worker was killed (out of memory?): start again with fewer workers") from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _leave_ctrl_c_to_the_parent() -> None:
    """In a worker: go on at Ctrl-C until the parent says, but not after its death."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_the_parent, daemon=True).start()


def _end_with_the_parent() -> None:
    if (parent := parent_process()) is not None:
        parent.join()
        os._exit(1)


def _claim(out: Path, recipe: Recipe) -> None:
    """Write down the recipe in a new folder; in one that is there, see that it is the same."""
    card = out / KEPT
    text = json.dumps({**asdict(recipe), "generator": fingerprint()}, indent=1) + "\n"
    if card.is_file():
        if card.read_text(encoding="utf-8", errors="replace") != text:
            raise SyntheticError(
                f"{out} holds videos of another recipe (see {card}): choose an empty folder, or the same seed, look and lengths"
            )
        return
    if out.is_dir() and any(not entry.name.startswith(".") for entry in out.iterdir()):
        raise SyntheticError(f"{out} holds files that are no made data set: choose an empty folder")
    out.mkdir(parents=True, exist_ok=True)
    with written_whole(card) as part:
        part.write_text(text, encoding="utf-8")


def _write_annotations(out: Path, truth: GroundTruth, clips: Sequence[tuple[VideoTruth, str | None]]) -> None:
    if clips:
        rows = [
            TrimmedClip(video_id=v.video_id, subset=str(v.subset), label=label, duration_s=float(v.duration_s or 0))
            for v, label in clips
        ]
        write_clips(rows, out / "trimmed.csv")
    if not truth.videos:
        return
    text = out / "annotations_thumos"
    with tempfile.TemporaryDirectory(dir=out, prefix=".tal-run-") as scratch:
        write_thumos(truth, Path(scratch) / "new")
        if text.is_dir():
            text.rename(Path(scratch) / "old")  # classes that are gone go with it
        (Path(scratch) / "new").rename(text)
    write_activitynet(truth, out / "annotations.json")
