"""What S-CNN learns from, out of videos: segments of sixteen small frames, decoded once and kept on the disk.

    annotations, videos ── windows, S_pro and S_cls (``scnn.training_set``) ── which frames are wanted
    each video, streamed once ── CACHE/NAME-DIGEST.npy, uint8 [segments, 16, H, W, 3] ── mapped, never read whole

Kept, not decoded anew in each iteration or drawn from a shuffled buffer: an iteration takes three segments of any videos, and
to seek three times in long videos takes longer than to learn from what is found there; a buffer holds few videos at a time, and
what is drawn from it depends on where a training was cut off. A segment is 1 MB with C3D and 0.6 MB with the starter. A file
that is there, of the same video and segments, is not made again, so that a kill costs one video.

Times are the video's own: frame k of a video is what is on screen at k / fps, in windows and in instances.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tal_run.eval.annotations import GroundTruth
from tal_run.eval.moments import Moment
from tal_run.extractors.features import FeatureNeeds
from tal_run.extractors.files import written_whole
from tal_run.extractors.hooks import Hook, ignore_progress
from tal_run.extractors.video import native_rate, open_video
from tal_run.extractors.video_errors import VIDEO_ENDINGS
from tal_run.extractors.wire import printable
from tal_run.models.scnn import LabelledVideo, length_prior, training_set
from tal_run.models.scnn_frames import Clips
from tal_run.models.scnn_network import FRAME_SIZES, VECTOR_DIMS, ScnnConfig, sampled_steps
from tal_run.pipeline.training_data import TrainingError, TrainingSet, names_of, some

STEP = "decoding segments"
Ranges = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class _Video:
    """One video and what is in it, in frames."""

    name: str
    path: Path
    fps: float
    labelled: LabelledVideo
    durations: NDArray[np.float64]


def videos_in(folder: Path) -> dict[str, Path]:
    """Videos in a folder and below by their names without endings.

    Raises:
        TrainingError: there is none, or two have one name.
    """
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in VIDEO_ENDINGS:
            if path.stem in found:
                raise TrainingError(f"{found[path.stem]} and {path} have one name, so annotations fit both: rename one")
            found[path.stem] = path
    if not found:
        raise TrainingError(f"{printable(folder)} holds no video ({', '.join(sorted(VIDEO_ENDINGS))}): check --videos")
    return found


def read_clips(
    truth: GroundTruth | None,
    videos: Mapping[str, Path],
    *,
    config: ScnnConfig,
    cache: Path,
    moments: Sequence[Moment] = (),
    fps: float | None = None,
    seed: int = 0,
    hook: Hook = ignore_progress,
) -> tuple[TrainingSet, Clips]:
    """Segments of annotated videos, and of trimmed ones, decoded as far as they are not there yet.

    Args:
        truth: annotated videos, with times.
        videos: files by name; who has none is left out.
        config: windows, and what the trunk sees.
        cache: a folder for the segments.
        moments: trimmed videos, whole.
        fps: frames a second; None: each video's own, as in the paper.
        seed: of the draw of the background.
        hook: told of videos.

    Raises:
        TrainingError: there is nothing to learn from.
        VideoError: a video cannot be read.
        OSError: the cache cannot be written.
    """
    names = {found.label for video in (truth.videos if truth else ()) for found in video.instances}
    labels = tuple(sorted(names | {moment.label for moment in moments}))
    index = {label: number for number, label in enumerate(labels, 1)}
    missing: list[str] = []
    found: list[_Video] = []
    for video_id, instances, label in _wanted(truth, moments):
        path = next((videos[name] for name in names_of(video_id) if name in videos), None)
        if path is None:
            missing.append(video_id)
        else:
            found.append(_in_frames(video_id, path, instances, label, index, fps))
    if not any(len(np.atleast_1d(video.labelled.labels)) for video in found):
        raise TrainingError(
            f"there is nothing to learn from: of {len(found) + len(missing)} annotated videos, {len(missing)} are not there "
            f"({some(missing) or 'none'}) and the others have no actions: check --videos, and that its files are called as in "
            "the annotations"
        )
    clips, digest = _segments(found, labels, config=config, cache=cache, seed=seed, hook=hook)
    needs = FeatureNeeds(dim=VECTOR_DIMS[config.trunk], streams=None, step_s=None, backbone=None)
    watching = {"frames_of": config.trunk, "fps": fps}
    return (
        TrainingSet(videos=(), labels=labels, needs=needs, sha256=digest, watching=watching, missing=tuple(missing)),
        clips,
    )


def _wanted(
    truth: GroundTruth | None, moments: Sequence[Moment]
) -> list[tuple[str, list[tuple[float, float, str]], str | None]]:
    """Videos by name, with their instances or, of trimmed ones, their label."""
    videos: list[tuple[str, list[tuple[float, float, str]], str | None]] = [
        (video.video_id, [(i.start_s, i.end_s, i.label) for i in video.instances], None)
        for video in (truth.videos if truth else ())
    ]
    for moment in moments:
        if moment.start_s is not None:
            raise TrainingError(
                f"the moment {printable(moment.video_id)} is part of a video, and S-CNN learns from whole clips beside "
                "annotated videos: give clips with one label each as --moments, and videos with times as --annotations"
            )
        videos.append((moment.video_id, [], moment.label))
    return videos


def _in_frames(
    name: str,
    path: Path,
    instances: Sequence[tuple[float, float, str]],
    label: str | None,
    index: Mapping[str, int],
    fps: float | None,
) -> _Video:
    with open_video(path) as reader:
        rate = native_rate(reader.info) if fps is None else fps
        count = max(1, math.floor(reader.info.duration_s * rate + 1e-6))
    times = np.array([(start, end) for start, end, _ in instances], np.float64).reshape(-1, 2) * rate
    kinds = [index[kind] for _, _, kind in instances] if label is None else [index[label]]
    labelled = LabelledVideo(step_count=count, instances=times, labels=np.array(kinds, np.int64), trimmed=label is not None)
    return _Video(name=name, path=path, fps=rate, labelled=labelled, durations=times[:, 1] - times[:, 0])


def _segments(
    videos: Sequence[_Video], labels: Sequence[str], *, config: ScnnConfig, cache: Path, seed: int, hook: Hook
) -> tuple[Clips, str]:
    """The sets of 3.2 and their frames."""
    labelled = [video.labelled for video in videos]
    rng, rows = np.random.default_rng([seed, 1]), dict[tuple[int, int, int], int]()
    kinds, overlaps = list[int](), list[float]()
    members: dict[Any, NDArray[np.int64]] = {}
    for stage in ("classification", "proposal"):
        drawn = training_set(labelled, stage=stage, num_classes=len(labels), config=config, rng=rng)
        own = []
        for video, (start, end), kind, overlap in zip(drawn.videos, drawn.segments, drawn.labels, drawn.overlaps, strict=True):
            key = (int(video), int(start), int(end))
            if key not in rows:  # actions are in both sets, and known by their class from the first
                rows[key] = len(rows)
                kinds.append(int(kind))
                overlaps.append(float(overlap))
            own.append(rows[key])
        members[stage] = np.array(own, np.int64)
    members["localization"] = members["classification"]
    keys = np.array(list(rows), np.int64).reshape(-1, 3)
    files, places = list[NDArray[np.uint8]](), np.empty((len(keys), 2), np.int64)
    digest = hashlib.sha256(json.dumps([list(labels), kinds, overlaps]).encode())
    cache.mkdir(parents=True, exist_ok=True)
    for number, video in enumerate(videos):
        hook(STEP, completed=number, total=len(videos))
        mine = np.flatnonzero(keys[:, 0] == number)
        places[mine] = np.stack([np.full(len(mine), len(files)), np.arange(len(mine))], axis=1)
        if len(mine):
            path, name = _kept(video, keys[mine, 1:], config, cache)
            digest.update(name.encode())
            files.append(np.load(path, mmap_mode="r", allow_pickle=False))
    hook(STEP, completed=len(videos), total=len(videos))

    def frames(chosen: NDArray[np.int64]) -> NDArray[np.uint8]:
        return np.stack([files[file][row] for file, row in places[chosen]])

    timed = [video for video in videos if not video.labelled.trimmed]
    seconds = [video.durations / video.fps for video in timed] or [np.empty(0)]
    # windows are of frames: in seconds, of videos as fast as most are
    usual = float(np.median([video.fps for video in videos]))
    prior = length_prior(
        np.concatenate(seconds),
        np.concatenate([np.asarray(video.labelled.labels) for video in timed] or [np.empty(0, np.int64)]),
        window_lengths=np.array(config.window_lengths) / usual,
        num_classes=len(labels),
    )
    clips = Clips(
        frames=frames,
        labels=np.array(kinds, np.int64),
        overlaps=np.array(overlaps, np.float64),
        members=members,
        prior=prior,
    )
    return clips, digest.hexdigest()


def _kept(video: _Video, ranges: Ranges, config: ScnnConfig, cache: Path) -> tuple[Path, str]:
    """The file of a video's segments, made if it is not there, and what tells its content from others."""
    size = FRAME_SIZES[config.trunk]
    stat = video.path.stat()
    what = [video.name, stat.st_size, video.fps, size, config.segment_steps, ranges.tolist()]
    content = hashlib.sha256(json.dumps(what).encode("utf-8", "surrogateescape")).hexdigest()
    stamp = hashlib.sha256(f"{content} {stat.st_mtime_ns}".encode()).hexdigest()[:16]
    path = cache / f"{video.path.stem}-{stamp}.npy"
    if not path.is_file():
        with written_whole(path) as part:
            _write(part, video, ranges, size, config.segment_steps)
    return path, content


def _write(target: Path, video: _Video, ranges: Ranges, size: tuple[int, int], count: int) -> None:
    """Stream a video once, and put each frame into the segments that it is part of."""
    wanted = sampled_steps(ranges, count=count)  # [N, S]
    order = np.argsort(wanted, axis=None, kind="stable")
    sorted_steps = wanted.reshape(-1)[order]
    shape = (len(ranges), count, *size, 3)
    kept = np.lib.format.open_memmap(target, mode="w+", dtype=np.uint8, shape=shape)
    done, last = 0, None
    with open_video(video.path) as reader:
        for chunk in reader.frames(fps=video.fps, size=size, interpolation="opencv"):
            behind = chunk.first_index + len(chunk)
            upto = int(np.searchsorted(sorted_steps, behind))
            for place, step in zip(order[done:upto], sorted_steps[done:upto], strict=True):
                kept[place // count, place % count] = chunk.frames[step - chunk.first_index]
            done, last = upto, chunk.frames[-1].copy()
    for place in order[done:]:  # decoding ended early: the last frame is held
        assert last is not None
        kept[place // count, place % count] = last
    kept.flush()
