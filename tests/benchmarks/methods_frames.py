"""S-CNN as in its paper, learnt from the frames of made video, for ``methods.py``.

    training videos ── segments of 16 frames (``scnn_clips.read_clips``) ── three stages ── OUT/heads/scnn_NAME.safetensors
    each test video ── windows ── proposal network ── P >= 0.7 ── localization network ── OUT/judged/NAME/VIDEO.npz
        ── for each overlap: length prior, NMS at theta - 0.1 ── OUT/runs/scnn_RESULT.json

The same videos as those whose features the other rows have, through the functions behind ``tal-run train --videos`` and
``detect``; only what the networks say is kept in between, so that the seven overlaps do not take seven times as long. Whatever
is there is not made again: a kill costs a minute of training, or one video.

What is S-CNN's own is as in the paper. Windows of 16 to 512 frames are of 1.6 s to 51 s at ten frames a second (THUMOS14's: of
0.5 s to 17 s): actions here last 0.9 s to 17 s, 2.6 s in the median, and every one in the training videos has a window that
overlaps it by more than 0.5. The starter, fine-tuned, is in the place of C3D. Batch, rates
and iterations were set beforehand, for some 5 CPU minutes a seed, and only looked at on eight of the validation videos
(seed 0): they are not the best of several. There the proposal network, after 80 iterations, is what misses actions.
"""

from __future__ import annotations

import hashlib
import shutil
import time
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from methods_data import Made, labels_of
from methods_runs import add_scores, code_of, digest_of, sources, write_card
from numpy.typing import NDArray

import tal_run.extractors.starter_network
import tal_run.pipeline.scnn_clips
from tal_run.eval.annotations import GroundTruth
from tal_run.eval.protocols import TENTHS
from tal_run.extractors.fast_inference import has_bfloat16
from tal_run.extractors.files import written_whole
from tal_run.extractors.starter import packaged
from tal_run.extractors.video import open_video
from tal_run.models import Detection
from tal_run.models.head import TrainedHead, load_head
from tal_run.models.scnn import decode
from tal_run.models.scnn_frames import head_on
from tal_run.models.scnn_network import FRAME_SIZES, Scnn, ScnnConfig, SegmentNetwork, sampled_steps, windows
from tal_run.pipeline.scnn_clips import read_clips, videos_in
from tal_run.pipeline.training import TrainOptions, is_done, train

BATCH = 25  # segments that are looked at together, as ``scnn_frames.localize`` does


@dataclass(frozen=True, kw_only=True)
class FromFrames:
    """A training on frames and its one row, beside ``methods_runs.Training``.

    Attributes:
        config: of the head.
        fps: frames a second.
        bfloat16: multiply in bfloat16, as where the starter was trained: twice as fast where the processor can do so itself.
        row: in the table.
        method: likewise.
        late: as of ``Training``.
    """

    config: ScnnConfig
    fps: float
    bfloat16: bool = False
    row: str = "from frames"
    method: str = "S-CNN"
    late: bool = False

    def multiplying(self) -> torch.autocast:
        """In what all is computed that is not kept."""
        # no cache: it would hold the first iteration's weights until the training ends
        return torch.autocast("cpu", torch.bfloat16, enabled=self.bfloat16, cache_enabled=False)

    @property
    def rows(self) -> tuple[str, ...]:
        """As of ``Training``."""
        return (self.row,)


FROM_FRAMES = FromFrames(
    config=ScnnConfig(
        trunk="starter",
        step_frames=1,
        iterations=240,
        batch_size=16,
        learning_rate=1e-3,
        decay_every=60,
    ),
    fps=10.0,
    bfloat16=has_bfloat16(),
)


# ---- names ----


@cache
def data_digest(folder: Path, part: str) -> str:
    """Of what is true of a part's videos, and of their files."""
    digest, files = hashlib.sha256(), videos_in(folder / "made" / part)
    for video in Made(folder).truth(part).videos:
        digest.update(repr(replace(video, subset=None)).encode())
        digest.update(hashlib.sha256(files[video.video_id].read_bytes()).digest())
    return digest.hexdigest()


@cache
def code() -> str:
    """A digest of the code and the weights that decide what is learnt."""
    modules = (tal_run.pipeline.scnn_clips, tal_run.extractors.starter_network)
    parts = [sources("scnn"), *(code_of(Path(str(module.__file__))) for module in modules), packaged().sha256]
    return hashlib.sha256("".join(parts).encode()).hexdigest()


def name_of(folder: Path, training: FromFrames, seed: int) -> str:
    """The name of what is learnt."""
    how = [asdict(training.config), training.fps, training.bfloat16, seed]
    return f"scnn_{digest_of([how, data_digest(folder, 'training'), code()])}"


def frames_file(folder: Path, training: FromFrames, seed: int, *, on: str) -> Path:
    """Where the result is kept."""
    return folder / "runs" / f"scnn_{digest_of([name_of(folder, training, seed), data_digest(folder, on)])}.json"


# ---- training ----


def run_frames(folder: Path, training: FromFrames, seed: int, *, on: str) -> list[Path]:
    """Train and test, unless it is done; the result's file, alone in a list as ``methods_runs.run`` gives it."""
    file = frames_file(folder, training, seed, on=on)
    if file.is_file():
        return [file]
    torch.set_num_threads(1)
    began_s = time.process_time()
    trained = learnt(folder, training, seed)
    trained_s, began_s = time.process_time() - began_s, time.process_time()
    card = {
        "method": training.method,
        "row": training.row,
        "seed": seed,
        "config": {**asdict(training.config), "fps": training.fps, "bfloat16": training.bfloat16},
        "changes": {},
        "learnt_from": "frames",
        "scores": judged(folder, training, trained, name_of(folder, training, seed), on=on),
        "train_s": round(trained_s, 1),  # of this process: what a killed one did, and decoders, are not in it
        "test_s": round(time.process_time() - began_s, 1),
    }
    write_card(file, card)
    return [file]


def learnt(folder: Path, training: FromFrames, seed: int) -> TrainedHead:
    """The trained head; what was begun goes on."""
    name = name_of(folder, training, seed)
    target, segments = folder / "heads" / f"{name}.safetensors", folder / "heads" / f"{name}.clips"
    target.parent.mkdir(parents=True, exist_ok=True)
    if not (target.is_file() and is_done(load_head(target))):
        data, clips = read_clips(
            Made(folder).truth("training"),
            videos_in(folder / "made" / "training"),
            config=training.config,
            cache=segments,
            fps=training.fps,
            seed=seed,
        )
        with training.multiplying():
            train(target, head_on(clips), data, config=training.config, options=TrainOptions(seed=seed))
        del clips  # lets go of the files
    shutil.rmtree(segments, ignore_errors=True)  # half a gigabyte
    return load_head(target)


# ---- test ----


class Judged(NamedTuple):
    """What the networks say of those windows of a video that are proposals, as ``scnn.decode`` takes it, and its length."""

    windows: NDArray[np.int64]
    proposal: NDArray[np.float32]
    localization: NDArray[np.float32]
    prior: NDArray[np.float32]
    duration_s: NDArray[np.float64]


def judged(folder: Path, training: FromFrames, trained: TrainedHead, name: str, *, on: str) -> dict[str, Any]:
    """mAP at tIoU 0.1 to 0.7, from detections for each, and what goes with it."""
    truth, files = Made(folder).truth(on), videos_in(folder / "made" / on)
    kept = folder / "judged" / f"{name}_{on}"
    every = {video.video_id: judge_once(kept, training, trained, files[video.video_id]) for video in truth.videos}
    scores, labels = dict[str, Any](), labels_of(truth)
    for tiou in TENTHS:
        found = {
            video: [one for one in detections(trained, each, fps=training.fps, tiou=tiou) if one.label in labels]
            for video, each in every.items()
        }
        add_scores(scores, found, as_test(truth), (tiou,))
    return scores


def as_test(truth: GroundTruth) -> GroundTruth:
    """All videos as one set to test on."""
    return GroundTruth(videos=tuple(replace(video, subset="testing") for video in truth.videos))


def judge_once(kept: Path, training: FromFrames, trained: TrainedHead, video: Path) -> Judged:
    """What the networks say of a video, unless it is there."""
    file = kept / f"{video.stem}.npz"
    if not file.is_file():
        said = judge(training, trained, video)
        kept.mkdir(parents=True, exist_ok=True)
        with written_whole(file) as part, part.open("wb") as target:
            np.savez(target, **said._asdict())
    with np.load(file, allow_pickle=False) as arrays:
        return Judged(**{name: arrays[name] for name in Judged._fields})


@torch.no_grad()
def judge(training: FromFrames, trained: TrainedHead, video: Path) -> Judged:
    """What the networks say of a video's windows, as in ``scnn_frames.localize``."""
    network, config = trained.network.eval(), trained.config
    assert isinstance(network, Scnn)
    with open_video(video) as reader:
        chunks = reader.frames(fps=training.fps, size=FRAME_SIZES[config.trunk], interpolation="opencv")
        frames, duration_s = np.concatenate([chunk.frames for chunk in chunks]), reader.info.duration_s
    pool = windows(len(frames), config=config)

    def said(part: SegmentNetwork, ranges: NDArray[np.int64]) -> NDArray[np.float32]:
        found = [np.empty((0, part.fc8.out_features), np.float32)]
        steps = sampled_steps(ranges, count=config.segment_steps)
        for first in range(0, len(steps), BATCH):
            with training.multiplying():
                vectors = part.trunk(torch.from_numpy(frames[steps[first : first + BATCH]]))
            found.append(part.fc8(vectors.float()).numpy())
        return np.concatenate(found)

    proposal = said(network.proposal, pool)
    likely = torch.from_numpy(proposal).softmax(dim=1)[:, 1].numpy() >= config.proposal_threshold
    return Judged(
        windows=pool[likely],
        proposal=proposal[likely],
        localization=said(network.localization, pool[likely]),
        prior=network.prior.numpy(),
        duration_s=np.array(duration_s),
    )


def detections(trained: TrainedHead, said: Judged, *, fps: float, tiou: float) -> list[Detection]:
    """What is found in a video, to be judged by that overlap."""
    outputs = Judged(said.windows[None], said.proposal[None], said.localization[None], said.prior, said.duration_s)
    segments, scores, classes = decode(outputs, replace(trained.config, evaluation_tiou=tiou))
    seconds = np.minimum(segments / fps, float(said.duration_s))
    return [
        Detection(float(start), float(end), trained.labels[index], float(score))
        for (start, end), score, index in zip(seconds, scores, classes, strict=True)
        if end > start
    ]
