"""Where an action is, read off how likely it is over time: a small network for a backbone that knows its classes.

Of no paper. A threshold on a class's scores cuts a slow squat between its repetitions and begins a kick at the kick instead of
at the run-up; a network that has seen the scores of a few hundred actions with their true times knows both. It is a one-stage
detector without anchors: each point of the curve says whether an action's middle is there and how far its ends are (FCOS, Tian
et al., ICCV 2019; in time ActionFormer, Zhang et al., ECCV 2022), learnt by focal cross-entropy (Lin et al., ICCV 2017) and
1 - tIoU (UnitBox, Yu et al., ACM MM 2016).

    logits [T, K] of a backbone -> for each class k, its own clock: ``per_length`` points as long as the action usually lasts
    (logit of k, best other one, all, what is particular to k) [C, n] -> convolutions -> middle [n], ends [2, n]

Notation: L_k typical length of class k in seconds; s = L_k / per_length the step; point i lies at (i + 1/2) s.

- *One network for all classes*, on a clock of the class's own (L_k): what a squat of 6 s teaches is used for a kick of 1.7 s.
  Only an embedding of a few numbers belongs to the class.
- *Logits, no features*: the features of some hundred videos are learnt by heart (loss 0.02 instead of 0.36 after 1,200 steps).
  That logits are other ones in other video is imitated in training by noise (``CurveTraining``).
- *Before and behind the video*, and where nobody watched it, nothing is likely: logits of ``NOTHING``, in training, too.
- *Bouts of any length*: no point sees both ends of what lasts longer than 3 L_k, and a minute of waving comes in pieces. A long
  piece therefore reaches as far as the class stays likely, if that is far, and swallows the others there (``CurveConfig``).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from tal_run.extractors.files import written_whole
from tal_run.extractors.timegrid import TimeGrid
from tal_run.extractors.weights import WeightsError, sha256_of
from tal_run.extractors.wire import printable
from tal_run.models.postprocess import nms

FORMAT = "tal-run curves 1"  # the one entry of the metadata
NOTHING = -8.0  # the logit of what is not there
LOGIT_UNIT = 4.0  # logits are divided by this, so that the network's inputs are about one
OFFSET_UNIT = 4.0  # steps
MOST_POINTS = 50_000  # candidates of a class that compete, the best; an hour of kicks has 18,000
CURE = "install tal-run again, or make it anew with `make starter-curves`"
MOST_CLASSES, MOST = 4_096, {"per_length": 64, "width": 256, "kernel": 31, "layers": 6, "embedding": 64}  # in a file
LENGTHS_S = (0.1, 3_600.0)  # of an action


@dataclass(frozen=True, kw_only=True)
class CurveConfig:
    """What is found on the curves.

    Attributes:
        min_score: leave out what scores lower. Of 0.4, 0.45 ... 0.7, on made video of the stadium look, seeds 1, 3 and 11, the
            highest that finds within 2 % of the most.
        nms_tiou: of two segments of one class that overlap by more than this, the weaker is dropped.
        long: a segment of so many typical lengths is taken for a piece of something longer, where the class stays likely for
            a third as long again; and ...
        likely: ... that is, with this probability. In those 180 videos neither changes a figure.
    """

    min_score: float = 0.6
    nms_tiou: float = 0.0
    long: float = 1.5
    likely: float = 0.5

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not 0 <= value <= 1 and name != "long":
                raise ValueError(f"{name.replace('_', '-')} must lie in 0..1, got {value:g}")
        if not self.long >= 0:
            raise ValueError(f"long must be a number of lengths, got {self.long:g}")


@dataclass(frozen=True, kw_only=True)
class CurveSize:
    """The network's size, and its clock.

    Attributes:
        classes: K.
        per_length: points on a typical length.
        width: channels of the hidden layers.
        kernel: points that a layer sees, odd; three layers of 9 see a typical length and a half on either side.
        layers: hidden layers.
        embedding: numbers that are a class's own.
    """

    classes: int
    per_length: int = 8
    width: int = 24
    kernel: int = 9
    layers: int = 3
    embedding: int = 4

    def __post_init__(self) -> None:
        for name, most in {"classes": MOST_CLASSES, **MOST}.items():
            if type(value := getattr(self, name)) is not int or not 1 <= value <= most:
                raise ValueError(f"{name} must be a whole number in 1..{most}, got {value!r}")
        if self.kernel % 2 == 0:
            raise ValueError(f"the kernel must be odd, got {self.kernel}")

    @property
    def curves(self) -> int:
        """Curves that the network sees of a class: its own, the best other one, all."""
        return 2 + self.classes

    @property
    def reach(self) -> int:
        """Points on either side of one that decide about it."""
        return self.layers * (self.kernel // 2) + 1


class Reading(NamedTuple):
    """What the network says of each point of curves.

    Attributes:
        middles: logit of being near the middle of an action [B, n].
        ends: how far its start and its end are, in units of ``OFFSET_UNIT`` steps, not negative [B, 2, n].
    """

    middles: Tensor
    ends: Tensor


class CurveNetwork(nn.Module):
    """Convolutions over a class's curves; see the module.

    Args:
        size: its size.
    """

    def __init__(self, size: CurveSize) -> None:
        super().__init__()
        self.size = size
        self.embedding = nn.Embedding(size.classes, size.embedding)
        nn.init.normal_(self.embedding.weight, std=0.1)
        widths = [size.curves + size.embedding, *[size.width] * size.layers]
        self.layers = nn.ModuleList(nn.Conv1d(a, b, size.kernel) for a, b in pairwise(widths))
        self.middle, self.ends = nn.Conv1d(size.width, 1, 3), nn.Conv1d(size.width, 2, 3)
        nn.init.constant_(self.middle.bias, -3.0)  # type: ignore[arg-type]  # most points are no middle

    def forward(self, curves: Tensor, classes: Tensor) -> Reading:
        """Read curves [B, curves, n + 2 reach] of classes [B]: of the n points that have ``reach`` others on either side."""
        own = self.embedding(classes)[:, :, None].expand(-1, -1, curves.shape[2])
        hidden = torch.cat([curves / LOGIT_UNIT, own], dim=1)
        for layer in self.layers:
            hidden = F.relu(layer(hidden))
        return Reading(self.middle(hidden)[:, 0], F.softplus(self.ends(hidden)))


@dataclass(frozen=True, kw_only=True, eq=False)
class CurveReader:
    """A trained network and what it was trained for.

    Attributes:
        network: in evaluation mode.
        labels: the K classes.
        lengths_s: how long an instance of each usually lasts, seconds: its clock.
        backbone: sha256 of the weights whose logits it has learnt.
        sha256: of the file.
        config: the thresholds that fit it.
    """

    network: CurveNetwork
    labels: tuple[str, ...]
    lengths_s: Mapping[str, float]
    backbone: str
    sha256: str
    config: CurveConfig = CurveConfig()

    def localize(
        self, logits: ArrayLike, grid: TimeGrid, index: int, *, config: CurveConfig
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Where class ``index`` is.

        Args:
            logits: of all classes [T, K].
            grid: where the T windows lie.
            index: the class.
            config: thresholds.

        Returns:
            Segments in seconds [N, 2], best first, and their scores [N], all at least ``min_score``.
        """
        size, length_s = self.network.size, self.lengths_s[self.labels[index]]
        step_s = length_s / size.per_length
        count = max(1, round(grid.duration_s / step_s))
        times_s = np.asarray((np.arange(-size.reach, count + size.reach) + 0.5) * step_s, np.float64)
        seen = curves_at(times_s, curves_of(logits, index), grid)
        with torch.inference_mode():
            read = self.network(torch.from_numpy(seen)[None], torch.tensor([index]))
        scores = torch.sigmoid(read.middles[0]).double().numpy()
        ends_s = read.ends[0].double().numpy() * OFFSET_UNIT * step_s  # [2, n]
        middle_s = times_s[size.reach : -size.reach]
        segments = np.clip(np.stack([middle_s - ends_s[0], middle_s + ends_s[1]], axis=1), 0.0, grid.duration_s)
        possible = np.flatnonzero((scores >= config.min_score) & (segments[:, 1] > segments[:, 0]))
        best = possible[np.argsort(-scores[possible], kind="stable")][:MOST_POINTS]
        kept = best[nms(segments[best], scores[best], tiou_threshold=config.nms_tiou)]
        own = np.asarray(logits, np.float64)[:, index]
        return _grown(segments[kept], scores[kept], own, grid, long_s=config.long * length_s, likely=config.likely)


def _grown(
    segments: NDArray[np.float64],
    scores: NDArray[np.float64],
    own: NDArray[np.float64],
    grid: TimeGrid,
    *,
    long_s: float,
    likely: float,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Segments [N, 2] and scores [N], the pieces of long bouts as one, by the class's own logits [T]; see the module."""
    places, edges_s, cells = np.arange(grid.count), grid.edges_s, grid.index_at(segments)
    is_likely = 0.5 + 0.5 * np.tanh(0.5 * own) >= likely
    first = np.maximum.accumulate(np.where(is_likely, -1, places)) + 1  # of the likely windows about each
    last = np.minimum.accumulate(np.where(is_likely, grid.count, places)[::-1])[::-1] - 1
    whole, best, swallowed = segments.copy(), scores.copy(), np.zeros(len(scores), bool)
    for piece in np.flatnonzero(np.ptp(segments, axis=1) >= long_s):
        if swallowed[piece]:
            continue
        start, end = cells[piece]
        start_s, end_s = edges_s[first[start]], edges_s[last[end] + 1]
        if whole[piece, 0] - start_s > long_s / 3:
            whole[piece, 0] = start_s
        if end_s - whole[piece, 1] > long_s / 3:
            whole[piece, 1] = end_s
        if (whole[piece] == segments[piece]).all():
            continue
        common_s = np.minimum(segments[:, 1], whole[piece, 1]) - np.maximum(segments[:, 0], whole[piece, 0])
        inside = common_s > np.ptp(segments, axis=1) / 2
        best[piece] = scores[inside].max()
        inside[piece] = False
        swallowed |= inside
    order = np.flatnonzero(~swallowed)[np.argsort(-best[~swallowed], kind="stable")]
    return whole[order], best[order]


def curves_of(logits: ArrayLike, index: int) -> NDArray[np.float32]:
    """Of logits [T, K], what the network sees of a class: its own, the largest of the others, all [2 + K, T]."""
    every = np.asarray(logits, np.float32).T
    others = np.delete(every, index, axis=0).max(axis=0, initial=NOTHING)
    return np.concatenate([every[index][None], others[None], every])


def curves_at(times_s: NDArray[np.float64], curves: NDArray[np.float32], grid: TimeGrid) -> NDArray[np.float32]:
    """Curves [C, T] at other times [n]: straight lines between the windows' middles, ``NOTHING`` where nobody watched."""
    found = np.stack([np.interp(times_s, grid.centers_s, curve) for curve in curves])
    reach_s = grid.window_s / 2 + grid.step_s  # of the first window and the last one, where the video goes on without them
    first_s, last_s = max(0.0, grid.centers_s[0] - reach_s), min(grid.duration_s, grid.centers_s[-1] + reach_s)
    found[:, (times_s < first_s) | (times_s > last_s)] = NOTHING
    return found.astype(np.float32)


# ---- training ----


@dataclass(frozen=True, kw_only=True, eq=False)
class TimedCurves:
    """A video's logits and what is true of it.

    Attributes:
        logits: [T, K].
        grid: where the windows lie.
        segments: true actions, seconds [N, 2].
        classes: which they are [N].
        ambiguous: stretches that nobody could tell, seconds [M, 2].
    """

    logits: NDArray[np.float32]
    grid: TimeGrid
    segments: NDArray[np.float64]
    classes: NDArray[np.int64]
    ambiguous: NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class CurveTraining:
    """How the network is trained.

    Attributes:
        steps: batches.
        batch: crops of curves a batch, half of them of classes that are in the video.
        points: of a crop.
        learning_rate: highest; it rises in the first 50 steps and falls along a cosine.
        weight_decay: AdamW's.
        middle: points nearer to an action's middle than this share of its length are to say so; those of the rest of it
            need not say anything.
        tempo: how much the clock varies, standard deviation of its logarithm.
        gain: logits are multiplied by something between these.
        shift: standard deviation of what is added to all of a crop's logits, each curve's for itself.
        noise: the same for each point.
        seed: of weights and crops.
    """

    steps: int = 2_400
    batch: int = 48
    points: int = 112
    learning_rate: float = 3e-3
    weight_decay: float = 0.02
    middle: float = 0.3
    tempo: float = 0.25
    gain: tuple[float, float] = (0.75, 1.15)
    shift: float = 0.7
    noise: float = 0.4
    seed: int = 0


class Crops(NamedTuple):
    """A batch.

    Attributes:
        curves: [B, 2 + K, n + 2 reach].
        classes: [B].
        middles: whether a point is to say that it is near a middle [B, n].
        counted: whether anything is asked of it [B, n].
        ends: as ``Reading`` has them, where ``middles`` [B, 2, n].
    """

    curves: Tensor
    classes: Tensor
    middles: Tensor
    counted: Tensor
    ends: Tensor


def train_curves(
    videos: Sequence[TimedCurves], lengths_s: Sequence[float], *, size: CurveSize, config: CurveTraining
) -> CurveNetwork:
    """Train a network on the curves of videos with times; ``lengths_s`` are the classes' typical ones."""
    torch.manual_seed(config.seed)
    network = CurveNetwork(size).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    for step, crops in enumerate(_crops(videos, np.asarray(lengths_s, np.float64), size=size, config=config)):
        share = min(1.0, (step + 1) / 50) * 0.5 * (1 + np.cos(np.pi * step / config.steps))
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * share
        loss = curve_loss(network(crops.curves, crops.classes), crops)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
    return network.eval()


def curve_loss(read: Reading, crops: Crops) -> Tensor:
    """Focal cross-entropy of the middles (gamma 1) and 1 - tIoU of the segments, each a middle on average."""
    count = crops.middles.sum().clamp(min=1)
    wrong = torch.sigmoid(read.middles)
    wrong = torch.where(crops.middles > 0, 1 - wrong, wrong)
    each = F.binary_cross_entropy_with_logits(read.middles, crops.middles, reduction="none")
    # of two segments that share a point: both ends' nearer ones make the intersection, the farther ones the union
    intersection = torch.minimum(read.ends, crops.ends).sum(dim=1)
    union = torch.maximum(read.ends, crops.ends).sum(dim=1).clamp(min=1e-4)
    apart = (1 - intersection / union) * crops.middles
    return ((each * wrong * crops.counted).sum() + apart.sum()) / count


def _crops(
    videos: Sequence[TimedCurves], lengths_s: NDArray[np.float64], *, size: CurveSize, config: CurveTraining
) -> Iterator[Crops]:
    """Batches without end but ``steps``: the first half of each of classes that are in the video."""
    rng = np.random.default_rng(config.seed)
    pairs = [(video, index) for video in videos for index in range(size.classes)]
    there = [pair for pair in pairs if (pair[0].classes == pair[1]).any()]
    absent = [pair for pair in pairs if not (pair[0].classes == pair[1]).any()]
    if not there or not absent:
        raise ValueError("there must be videos with and without an action to learn from")
    curves = {id(video): [curves_of(video.logits, index) for index in range(size.classes)] for video in videos}
    for _ in range(config.steps):
        rows = []
        for place in range(config.batch):
            of = there if place < config.batch / 2 else absent
            video, index = of[int(rng.integers(len(of)))]
            step_s = lengths_s[index] * np.exp(rng.normal(0, config.tempo)) / size.per_length
            rows.append(_crop(video, index, curves[id(video)][index], step_s, rng=rng, size=size, config=config))
        yield Crops(*(torch.from_numpy(np.stack(parts)) for parts in zip(*rows, strict=True)))


def _crop(
    video: TimedCurves,
    index: int,
    curves: NDArray[np.float32],
    step_s: float,
    *,
    rng: np.random.Generator,
    size: CurveSize,
    config: CurveTraining,
) -> tuple[NDArray[Any], ...]:
    """One row of ``Crops``."""
    count = max(1, round(video.grid.duration_s / step_s))
    first = int(rng.integers(max(1, count - config.points + 1)))
    times_s = np.asarray((np.arange(first - size.reach, first + config.points + size.reach) + 0.5) * step_s, np.float64)
    seen = curves_at(times_s, curves, video.grid)
    inside = (times_s >= 0) & (times_s <= video.grid.duration_s)
    shift, noise = rng.normal(0, config.shift, (len(seen), 1)), rng.normal(0, config.noise, seen.shape)
    varied = seen * rng.uniform(*config.gain) + shift + noise
    seen = np.where(inside, varied, seen).astype(np.float32)
    times_s, inside = times_s[size.reach : -size.reach], inside[size.reach : -size.reach]
    middles, counted, ends = np.zeros(len(times_s)), inside.astype(float), np.zeros((2, len(times_s)))
    for start_s, end_s in video.ambiguous:
        counted[(times_s > start_s) & (times_s < end_s)] = 0
    for start_s, end_s in video.segments[video.classes == index]:
        away = np.abs(times_s - (start_s + end_s) / 2)
        near = away <= max(config.middle * (end_s - start_s), step_s / 2)
        counted[(times_s > start_s) & (times_s < end_s)] = 0
        middles[near], counted[near] = 1, 1
        ends[:, near] = np.maximum(0, [times_s[near] - start_s, end_s - times_s[near]]) / (OFFSET_UNIT * step_s)
    middles, ends = middles * inside, ends * inside
    return seen, np.asarray(index), *(part.astype(np.float32) for part in (middles, counted, ends))


# ---- files ----


def write_curves(
    path: str | os.PathLike[str],
    network: CurveNetwork,
    *,
    lengths_s: Mapping[str, float],
    backbone: str,
    recipe: Mapping[str, Any],
) -> None:
    """Write a network as ``read_curves`` reads it; whole or not at all.

    Args:
        path: the file.
        network: trained.
        lengths_s: of its classes in their order.
        backbone: sha256 of the weights whose logits it has learnt.
        recipe: what it was made of and how, for people.

    Raises:
        ValueError: the network has not one class a length.
        OSError: the file cannot be written.
    """
    from safetensors.numpy import save

    if len(lengths_s) != network.size.classes:
        raise ValueError(f"{len(lengths_s)} lengths for {network.size.classes} classes")
    card = {"size": asdict(network.size), "lengths_s": dict(lengths_s), "backbone": backbone, "recipe": dict(recipe)}
    tensors = {name: np.ascontiguousarray(tensor.detach().numpy()) for name, tensor in network.state_dict().items()}
    with written_whole(path) as part:
        part.write_bytes(save(tensors, {FORMAT: json.dumps(card)}))


def read_curves(path: str | os.PathLike[str], *, sha256: str | None = None) -> CurveReader:
    """The network in a file that ``write_curves`` wrote.

    Args:
        path: the file.
        sha256: what its bytes must have, if that is known.

    Raises:
        WeightsError: the file is missing, damaged or of another kind.
    """
    from safetensors import SafetensorError, safe_open

    shown = os.fspath(path)
    try:
        found_sha256 = sha256_of(Path(path))
        if sha256 not in (None, found_sha256):
            raise ValueError("its sha256 is not the one in the card beside it")
        with safe_open(shown, framework="np") as file:
            metadata = file.metadata() or {}
            if FORMAT not in metadata:
                raise WeightsError(f"{shown} does not read curves ({FORMAT!r}): {CURE}")
            state = {name: torch.from_numpy(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118  # no mapping
        card = json.loads(metadata[FORMAT])
        lengths_s = {str(label): float(length_s) for label, length_s in card["lengths_s"].items()}
        if not all(LENGTHS_S[0] <= length_s <= LENGTHS_S[1] for length_s in lengths_s.values()):
            raise ValueError("no action lasts so long")
        network = CurveNetwork(CurveSize(**card["size"]))
        network.load_state_dict(state)
        if network.size.classes != len(lengths_s) or not all(bool(w.isfinite().all()) for w in network.parameters()):
            raise ValueError("classes without a length, or weights that are no finite numbers")
        backbone = str(card["backbone"])
    except OSError as error:
        raise WeightsError(f"{shown} cannot be read ({error.strerror or error}): {CURE}") from error
    except (SafetensorError, KeyError, ValueError, TypeError, AttributeError, OverflowError, RuntimeError) as error:
        raise WeightsError(f"{shown} is damaged ({printable(error)}): {CURE}") from error
    return CurveReader(
        network=network.eval().requires_grad_(False),
        labels=tuple(lengths_s),
        lengths_s=lengths_s,
        backbone=backbone,
        sha256=found_sha256,
    )
