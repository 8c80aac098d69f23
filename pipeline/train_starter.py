"""Train the network that comes with tal-run: ``python -m tal_run.pipeline.train_starter`` (``make starter``).

    make clips of each look ─ keep them as grey frames ─ draw and vary windows ─ train ─ average ─ validate ─ write

It learns from trimmed clips of one look (or several) and is judged on held-out clips of each, so that the table beside the
weights says how much of what was learnt is the motion. Its clips are drawn from a seed of their own: none of them is in the
data set ``synthetic``, on which it may then be tested; so only their subset ``validation`` is held out. With ``--videos`` half
of its windows come from untrimmed videos (of the next seed), which show what clips do not: what comes before and behind an
action, two people who act at once, what people do all day. The starter that comes with tal-run has not seen any: what they
are worth is in ``BENCHMARKS.md``.

Binary cross-entropy with AdamW and a one-cycle learning rate; what is kept is an exponential moving average of the weights.
The same machine and seed give the same network as long as the training keeps up with ``--minutes``; where it falls behind, the
schedule is squeezed into that time, and the card tells how many steps were done.
"""

from __future__ import annotations

import logging
import math
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from tal_run.eval.annotations import VideoTruth
from tal_run.eval.annotations import read_clips as read_clip_table
from tal_run.eval.synthetic import LOOKS, fingerprint, synthesize
from tal_run.eval.synthetic_actions import ACTIONS
from tal_run.eval.synthetic_plan import plan_video
from tal_run.extractors.errors import TalRunError
from tal_run.extractors.files import written_whole
from tal_run.extractors.hooks import Hook
from tal_run.extractors.starter import LENGTHS_S, WEIGHTS_NAME, WINDOWS, read_weights, write_card, write_weights
from tal_run.extractors.starter_network import StarterConfig, StarterNetwork
from tal_run.pipeline.starter_clips import (
    BACKGROUND,
    AugmentConfig,
    ClipFile,
    Clips,
    TimedVideos,
    WindowSampler,
    centre_windows,
    describe,
    read_clips,
)

logger = logging.getLogger(__name__)

LABELS = tuple(ACTIONS)
PACKAGED = Path(__file__).parents[1] / "extractors" / "data" / WEIGHTS_NAME
CLIPS_FOLDER = Path("out/starter")
LOOK = click.Choice(LOOKS)
HELD_OUT = "validation"
# of the clips; the data set ``synthetic`` is made from small seeds
SEED = 20_181_106
GRACE = 0.15  # of the time
TELL_EVERY_S = 15.0
OTHER_LOOK_CLIPS = 32  # at least; two rounds of the labels
PLANNED_VIDEOS = 2000  # a look, for the lengths of actions: some 500 instances of each
FOUND_AT = 0.5  # an action is said to be there from this probability on


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How the network is trained.

    Attributes:
        steps: batches it learns from.
        minutes: the most that these steps may take.
        batch: windows a batch.
        learning_rate: highest of the cycle.
        warm_up: share of the steps during which the learning rate rises.
        weight_decay: of the convolutions' and the classifier's weights.
        label_smoothing: how far targets stay away from 0 and 1.
        average_steps: steps that the moving average of the weights looks back.
        seed: of the weights' start and of all that is drawn.
        bfloat16: multiply in bfloat16, twice as fast where the processor can do so itself.
        compiled: let torch compile the steps, where there is a C++ compiler: faster, and not to the last bit the same.
    """

    steps: int = 5200
    minutes: float = 45.0
    batch: int = 32
    learning_rate: float = 4e-3
    warm_up: float = 0.15
    weight_decay: float = 0.03
    label_smoothing: float = 0.01
    average_steps: int = 120
    seed: int = SEED
    bfloat16: bool = True
    compiled: bool = False


class Training(NamedTuple):
    """What came of it: the moving average of the network, in evaluation mode, after so many steps."""

    network: StarterNetwork
    steps: int


def train(
    clips: Clips,
    *,
    classes: int,
    config: TrainConfig,
    augment: AugmentConfig | None = None,
    videos: TimedVideos | None = None,
) -> Training:
    """Train a network on clips, and on windows of untrimmed ``videos`` if there are any."""
    torch.manual_seed(config.seed)
    sampler = WindowSampler(clips, classes=classes, config=augment or AugmentConfig(), seed=config.seed, videos=videos)
    network, average = StarterNetwork(StarterConfig(classes=classes)), StarterNetwork(StarterConfig(classes=classes))
    average.load_state_dict(network.state_dict())
    network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]  # missing in the stubs
    decayed = [weight for weight in network.parameters() if weight.ndim > 1]
    others = [weight for weight in network.parameters() if weight.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.99))
    recent: list[float] = []
    steps_done = 0
    began_s = told_s = time.monotonic()
    network.train()
    in_training = torch.compile(network) if config.compiled and _can_compile() else network
    batches = _prepared(sampler, config.batch)
    for step, progress in _schedule(config):
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * one_cycle(progress, warm_up=config.warm_up)
        windows, targets = next(batches)
        with torch.autocast("cpu", torch.bfloat16, enabled=config.bfloat16):
            logits = in_training(windows)
        loss = loss_of(logits.float(), targets, smoothing=config.label_smoothing)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(network.parameters(), 2.0)
        optimizer.step()
        steps_done = step + 1
        _average(average, network, keep=min(1 - 1 / config.average_steps, step / (step + 1)))
        recent = [*recent[-49:], loss.item()]
        if (now_s := time.monotonic()) - told_s > TELL_EVERY_S or step + 1 == config.steps:
            told_s, rate = now_s, (step + 1) * config.batch / (now_s - began_s)
            logger.info("step %d of %d: loss %.4f, %.0f windows/s", step + 1, config.steps, np.mean(recent), rate)
    return Training(network=average.eval(), steps=steps_done)


def loss_of(logits: Tensor, targets: Tensor, *, smoothing: float) -> Tensor:
    """Loss of logits [B, K] against targets [B, K] in 0..1: mean over the batch of two terms.

    The first, binary cross-entropy summed over the classes, is what the scores mean. It alone learns slowly, as nearly all of
    its terms are easy "no"s. So a second sets the classes against one another and against background, whose logit is 0: a
    class then wins from a probability of one half on, as it is to be.
    """
    smoothed = targets * (1 - 2 * smoothing) + smoothing
    each = F.binary_cross_entropy_with_logits(logits, smoothed, reduction="sum") / len(logits)
    nothing = 1 - targets.amax(dim=1, keepdim=True)
    shares = torch.cat([targets, nothing], dim=1)  # [B, K + 1]
    shares = shares / shares.sum(dim=1, keepdim=True)
    return each + F.cross_entropy(F.pad(logits, (0, 1)), shares)


def one_cycle(progress: float, *, warm_up: float) -> float:
    """Share of the highest learning rate at ``progress`` in 0..1: up in a straight line, then down along a cosine."""
    if progress < warm_up:
        return 0.04 + 0.96 * progress / warm_up
    return 0.5 * (1 + math.cos(math.pi * (progress - warm_up) / (1 - warm_up)))


def _schedule(config: TrainConfig) -> Iterator[tuple[int, float]]:
    """Steps and how far the training is, which is time where that is short."""
    began_s = time.monotonic()
    for step in range(config.steps):
        elapsed = (time.monotonic() - began_s) / (60 * config.minutes)
        # a little behind is not late: where the steps fit into the time, the clock must not show in the weights
        progress = max(step / config.steps, (elapsed - GRACE) / (1 - GRACE))
        if progress >= 1:
            logger.info("stopping at step %d: the time is up", step)
            return
        yield step, progress


def _prepared(sampler: WindowSampler, size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches without end, each drawn while the network learns from the one before."""
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(sampler.batch, size)
        while True:
            batch = coming.result()
            coming = pool.submit(sampler.batch, size)
            yield batch


def _can_compile() -> bool:
    if shutil.which("g++"):
        return True
    logger.info("there is no C++ compiler (g++): nothing is compiled")
    return False


@torch.no_grad()
def _average(average: StarterNetwork, network: StarterNetwork, *, keep: float) -> None:
    """Move the average towards the network, batch normalisation's means and variances too."""
    for mean, value in zip(average.state_dict().values(), network.state_dict().values(), strict=True):
        if mean.is_floating_point():
            mean.lerp_(value, 1 - keep)
        else:
            mean.copy_(value)


def clip_scores(network: StarterNetwork, clips: Clips) -> NDArray[np.float32]:
    """Each clip's class probabilities [clips, K]: the mean over its windows, half of which overlaps the next."""
    rows = []
    with torch.inference_mode():
        for clip in range(len(clips)):
            rows.append(
                network(torch.from_numpy(centre_windows(clips, clip, stride_frames=WINDOWS.window_frames // 2)))
                .sigmoid()
                .mean(dim=0)
                .numpy()
            )
    return np.stack(rows)


def judge(scores: NDArray[np.float32], classes: NDArray[np.int64], labels: Sequence[str]) -> dict[str, Any]:
    """How scores [clips, K] fit the truth [clips], in JSON's terms.

    Returns:
        ``accuracy``: share of the action clips whose highest score is the right class's; ``found``: whose right class has
        a probability of at least one half; ``false_alarms``: share of the background clips with any such; ``classes``: for
        each label ``clips``, ``accuracy``, ``found`` and what it is ``taken_for`` most.
    """
    best, found = scores.argmax(axis=1), scores >= FOUND_AT
    table: dict[str, Any] = {}
    for index, label in enumerate(labels):
        rows = np.flatnonzero(classes == index)
        wrong = best[rows][best[rows] != index]
        table[label] = {
            "clips": len(rows),
            "accuracy": _share(best[rows] == index),
            "found": _share(found[rows, index]),
            "taken_for": labels[int(np.bincount(wrong).argmax())] if len(wrong) else None,
        }
    acting = np.flatnonzero(classes != BACKGROUND)
    return {
        "clips": len(classes),
        "accuracy": _share(best[acting] == classes[acting]),
        "found": _share(found[acting, classes[acting]]),
        "false_alarms": _share(found[classes == BACKGROUND].any(axis=1)),
        "classes": table,
    }


def _share(hits: NDArray[np.bool_]) -> float | None:
    return round(float(hits.mean()), 4) if len(hits) else None


def table_lines(look: str, verdict: dict[str, Any]) -> list[str]:
    """A verdict of ``judge`` for people."""

    def percent(share: float | None) -> str:
        return "-" if share is None else f"{share:.1%}"

    lines = [f"{look}: {'clips':>20} {'accuracy':>9} {'found':>7}  taken for"]
    for label, row in verdict["classes"].items():
        numbers = f"{row['clips']:>5} {percent(row['accuracy']):>9} {percent(row['found']):>7}"
        lines.append(f"  {label:<{len(look) + 15}} {numbers}  {row['taken_for'] or ''}".rstrip())
    lines.append(
        f"  all {verdict['clips']} clips: accuracy {percent(verdict['accuracy'])}, found {percent(verdict['found'])}, "
        f"false alarms in {percent(verdict['false_alarms'])} of the background clips"
    )
    return lines


def make_clips(folder: Path, *, look: str, count: int, seed: int) -> list[ClipFile]:
    """Trimmed clips of a look, made if they are not there yet.

    Raises:
        SyntheticError: the folder holds clips of another recipe, or cannot be written.
    """
    synthesize(folder, videos=0, trimmed=count, seed=seed, look=look, workers=os.cpu_count() or 1, hook=_telling(look))
    return list_clips(folder)


def make_videos(folder: Path, *, look: str, count: int, seed: int) -> list[tuple[Path, VideoTruth]]:
    """Untrimmed videos of a look and what is true of them, made if they are not there yet.

    Raises:
        SyntheticError: the folder holds videos of another recipe, or cannot be written.
    """
    truth = synthesize(folder, videos=count, seed=seed, look=look, workers=os.cpu_count() or 1, hook=_telling(look))
    return [(folder / str(video.subset) / f"{video.video_id}.mp4", video) for video in truth.videos]


def _telling(look: str) -> Hook:
    """A hook that says now and then how far the making of a look is."""
    told_s = time.monotonic()

    def tell(step: str, *, completed: float, total: float | None) -> None:
        nonlocal told_s
        if time.monotonic() - told_s > TELL_EVERY_S or completed == total:
            told_s = time.monotonic()
            logger.info("%s: %s, %.0f of %.0f", look, step, completed, total)

    return tell


def list_clips(folder: Path) -> list[ClipFile]:
    """The trimmed clips of a made data set, in the order of their names."""
    rows = read_clip_table(folder / "trimmed.csv")
    return [ClipFile(folder / "trimmed" / row.subset / f"{row.video_id}.mp4", row.label, row.subset) for row in rows]


def typical_lengths(looks: Sequence[str], *, seed: int) -> dict[str, float]:
    """Median length of each action's instances, seconds.

    Those of untrimmed videos that are planned from the training's seed and never drawn: a trimmed clip of a short action
    also shows what comes before and after it.
    """
    lengths_s: dict[str, list[float]] = {label: [] for label in LABELS}
    for look in looks:
        for index in range(PLANNED_VIDEOS):
            for instance in plan_video(look=look, seed=seed, index=index).truth.instances:
                lengths_s[instance.label].append(instance.end_s - instance.start_s)
    return {label: round(float(np.median(found)), 2) for label, found in lengths_s.items() if found}


def run(out: Path, *, data: Path, looks: Sequence[str], clips: int, videos: int, config: TrainConfig) -> dict[str, Any]:
    """Make the data, train, write the weights to ``out`` and what is known of them to ``out`` with the suffix ``.json``."""
    began_s = time.monotonic()
    out.parent.mkdir(parents=True, exist_ok=True)
    learnt: list[ClipFile] = []
    held_out: dict[str, list[ClipFile]] = {}
    for look in LOOKS:
        # of a look that is not learnt from, as many clips as are held out of the others
        is_learnt = look in looks
        count = clips if is_learnt else max(OTHER_LOOK_CLIPS, clips // 8)
        files = make_clips(data / look, look=look, count=count, seed=config.seed)
        held_out[look] = [file for file in files if file.subset == HELD_OUT or not is_learnt]
        learnt += [file for file in files if file not in held_out[look]]
    logger.info("%d clips to learn from after %.0f s", len(learnt), time.monotonic() - began_s)
    training = read_clips(learnt, LABELS, cache=data / "training.grey")
    made: list[tuple[Path, VideoTruth]] = []
    for look in looks if videos else ():
        # not those that the curves are learnt from: of what it has seen, the starter's scores are better than they will be
        made += make_videos(data / f"{look}_windows", look=look, count=videos, seed=config.seed + 1)
    untrimmed = None
    if made:
        files = [ClipFile(path, None, str(truth.subset)) for path, truth in made]
        frames = read_clips(files, LABELS, cache=data / "untrimmed.grey")
        untrimmed = TimedVideos(frames, [truth for _, truth in made], LABELS)
    data_s = time.monotonic() - began_s
    trained = train(training, classes=len(LABELS), config=config, videos=untrimmed)
    recipe = {
        "data": {
            "made": "tal_run.eval.synthetic",
            "looks": list(looks),
            "clips": len(learnt),
            "videos": len(made),
            "seed": config.seed,
        },
        "generator": fingerprint(),
        "training": {**describe(config), "steps_done": trained.steps},
        "augmentation": describe(AugmentConfig()),
        "torch": str(torch.__version__),
    }
    verdicts = {}
    with written_whole(out) as part:  # the old ones stay until the new ones' card can be written too
        write_weights(part, trained.network, labels=LABELS, recipe=recipe)
        shipped = read_weights(part).network  # rounded as shipped
        for look, files in held_out.items():
            seen = read_clips(files, LABELS, cache=data / f"validation_{look}.grey")
            verdicts[look] = judge(clip_scores(shipped, seen), seen.classes, LABELS)
            for line in table_lines(look, verdicts[look]):
                logger.info("%s", line)
    total_s = time.monotonic() - began_s
    seconds = {"data": round(data_s), "all": round(total_s)}
    lengths_s = typical_lengths(looks, seed=config.seed)
    card = write_card(out, {**recipe, LENGTHS_S: lengths_s, "seconds": seconds, "validation": verdicts})
    logger.info("%s: %.2f MB after %.0f s", out, out.stat().st_size / 1e6, total_s)
    return card


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), default=PACKAGED, help="Weights; figures go beside.")
@click.option("--data", type=click.Path(path_type=Path, file_okay=False), default=CLIPS_FOLDER, help="Folder of the clips.")
@click.option("--clips", type=click.IntRange(24), default=2700, help="Trimmed clips to make of each look learnt from.")
@click.option("--videos", type=click.IntRange(0), default=0, help="Untrimmed videos to learn windows of as well.")
@click.option("--look", "looks", type=LOOK, multiple=True, default=("stadium",), help="To learn from; repeatable.")
@click.option("--steps", type=click.IntRange(1), default=TrainConfig.steps, help="Batches to learn from.")
@click.option("--minutes", type=click.FloatRange(0, min_open=True), default=TrainConfig.minutes, help="Most time to train.")
@click.option("--seed", type=click.IntRange(0), default=SEED, help="Of the clips and the training.")
@click.option("--compile", "compiled", is_flag=True, help="Let torch compile the steps; needs a C++ compiler.")
@click.option("--float32", is_flag=True, help="Multiply in single precision.")
def main(
    out: Path,
    data: Path,
    clips: int,
    videos: int,
    looks: tuple[str, ...],
    steps: int,
    minutes: float,
    seed: int,
    compiled: bool,
    float32: bool,
) -> None:
    """Make video, train the starter network on it and write its weights.

    What was made is kept and used again. Interrupted, it leaves the weights as they were.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("tal_run.extractors").setLevel(logging.WARNING)  # readers tell of every clip
    config = TrainConfig(steps=steps, minutes=minutes, seed=seed, bfloat16=not float32, compiled=compiled)
    try:
        run(out, data=data, looks=looks, clips=clips, videos=videos, config=config)
    except TalRunError as error:
        raise click.ClickException(str(error)) from error


if __name__ == "__main__":
    main()
