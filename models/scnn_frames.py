"""S-CNN on frames, as in the paper that ``scnn.py`` cites: three stages of training one after the other, and prediction.

    S_pro -> proposal network                                    config.proposal_share of the iterations
    S_cls -> localization network, by Eq. 2: it is Theta_cls     config.classification_share of the rest
    S_loc -> localization network, by Eq. 1: it is Theta_loc     what is left

Segments are sixteen frames each, small and uint8, from whoever keeps them (``Clips``). S_loc is S_cls "augmented with v" (3.2).
Both networks begin with the published weights of their trunk ("we use C3D as the initialization for our proposal and
classification networks"), all but fc8; the length prior is counted. ``localize`` reads a video as it streams: it holds the
frames of the longest window and a batch of segments, however long the video is.
"""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from tal_run.extractors.hooks import Hook, ignore_progress
from tal_run.models.head import Found, Head, HeadError, Step, TrainedHead, found, to_arrays
from tal_run.models.scnn import HEAD, Stage, augment, decode, optimizer_of, stage_loss
from tal_run.models.scnn_network import (
    SEEN_SIZES,
    C3DTrunk,
    Scnn,
    ScnnConfig,
    ScnnOutput,
    SegmentNetwork,
    StarterTrunk,
    sampled_steps,
)

STAGES: tuple[Stage, ...] = ("proposal", "classification", "localization")
Pixels = NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True, eq=False)
class Clips:
    """Segments to learn from.

    Attributes:
        frames: segments' indices [N] -> their frames, uint8 RGB [N, S, H, W, 3].
        labels: k of each segment, 0 for background and 1..K; of all stages.
        overlaps: v.
        members: the segments of S_pro, and those of S_cls and S_loc.
        prior: shares of the windows' lengths [K, W].
    """

    frames: Callable[[NDArray[np.int64]], Pixels]
    labels: NDArray[np.int64]
    overlaps: NDArray[np.float64]
    members: Mapping[Stage, NDArray[np.int64]]
    prior: NDArray[np.float64]


def head_on(clips: Clips) -> Head[ScnnConfig]:
    """``HEAD``, as it learns from segments."""
    return replace(
        HEAD, steps=steps, iterate=functools.partial(iterate, clips=clips), begin=functools.partial(begin, clips=clips)
    )


# ---- 3.2 optimization ----


def lengths(config: ScnnConfig) -> dict[Stage, int]:
    """Iterations of each stage."""
    proposal = round(config.iterations * config.proposal_share)
    classification = round((config.iterations - proposal) * config.classification_share)
    return {
        "proposal": proposal,
        "classification": classification,
        "localization": config.iterations - proposal - classification,
    }


def stage_of(iteration: int, config: ScnnConfig) -> Stage:
    """The stage that an iteration, from 0 on, belongs to."""
    behind = 0
    for stage, count in lengths(config).items():
        behind += count
        if iteration < behind:
            return stage
    raise ValueError(f"iteration {iteration} is none of {config.iterations}")


def steps(network: nn.Module, config: ScnnConfig) -> tuple[Step, ...]:
    """An update for each of ``STAGES``; each counts its own iterations."""
    assert isinstance(network, Scnn)
    network.prior.requires_grad_(False)  # counted
    made = []
    for stage in STAGES:
        part = _part(network, stage)
        part.trunk.is_new = not config.pretrained
        optimizer = optimizer_of(part, config)
        decay = config.proposal_decay if stage == "proposal" else config.decay
        every = config.localization_every if stage == "localization" else config.decay_every
        made.append(Step(optimizer=optimizer, schedule=LambdaLR(optimizer, _falling(decay, every)), minimizes=(stage,)))
    return tuple(made)


def _falling(decay: float, every: int) -> Callable[[int], float]:
    return lambda iteration: decay ** (iteration // every)


def _part(network: Scnn, stage: Stage) -> SegmentNetwork:
    return network.proposal if stage == "proposal" else network.localization


def begin(
    network: nn.Module,
    videos: Sequence[object],
    config: ScnnConfig,
    *,
    start: TrainedHead | None,
    rng: np.random.Generator,
    clips: Clips,
    hook: Hook = ignore_progress,
) -> None:
    """Take the published weights, and count the prior.

    Raises:
        WeightsError: the weights are not at hand, and cannot be had; the message says what to put where.
        HeadError: there is something to start from, or a stage has no segments.
    """
    assert isinstance(network, Scnn)
    if start is not None:
        raise HeadError("S-CNN starts from the weights of its trunk: leave out --start-from")
    for stage, count in lengths(config).items():
        if count and not (clips.labels[clips.members[stage]] > 0).any():
            raise HeadError(f"no window overlaps an action enough to learn from ({stage}): check times and window_frames")
    network.set_prior(clips.prior)
    if config.pretrained:
        for part in (network.proposal, network.localization):
            take_published(part.trunk, hook=hook)


def take_published(trunk: nn.Module, *, hook: Hook = ignore_progress) -> None:
    """Fill C3D, or the starter's network, with its weights. Raises WeightsError: they cannot be had."""
    if isinstance(trunk, C3DTrunk):
        from tal_run.extractors import published_weights

        weights = published_weights.load("c3d", hook=hook).state_dict()
        mean = published_weights.mean_clip("c3d", hook=hook)
        assert mean is not None
        trunk.mean_clip.copy_(torch.from_numpy(np.ascontiguousarray(mean)))
    else:
        assert isinstance(trunk, StarterTrunk)
        from tal_run.extractors.starter import packaged

        weights = packaged().network.state_dict()
    kept = {name: value for name, value in weights.items() if not name.startswith("classifier.")}
    trunk.get_submodule("network").load_state_dict(kept)


def iterate(
    network: nn.Module, updates: Sequence[Step], config: ScnnConfig, *, rng: np.random.Generator, iteration: int, clips: Clips
) -> dict[str, float]:
    """One iteration of the stage whose turn it is; its loss by its name."""
    assert isinstance(network, Scnn)
    stage = stage_of(iteration, config)
    update, part, device = updates[STAGES.index(stage)], _part(network, stage), network.prior.device
    chosen = np.sort(rng.permutation(clips.members[stage])[: config.batch_size])
    labels = torch.from_numpy(clips.labels[chosen])
    frames = augment(torch.from_numpy(clips.frames(chosen)).to(device), size=SEEN_SIZES[config.trunk])
    loss = stage_loss(
        part(frames),
        (labels.clamp(max=1) if stage == "proposal" else labels).to(device),
        torch.from_numpy(clips.overlaps[chosen]).to(device),
        stage=stage,
        config=config,
    )
    update.optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    update.optimizer.step()
    update.schedule.step()
    return {stage: float(loss.detach())}


# ---- 3.3 prediction ----


@torch.no_grad()
def localize(network: Scnn, chunks: Iterable[Pixels], *, batch_size: int = 25) -> Found:
    """Localize in a video as it comes, as ``scnn.predict`` does in one that is held whole.

    Args:
        network: in evaluation mode.
        chunks: its frames as the trunk takes them, uint8 [n, H, W, 3].
        batch_size: segments that are looked at together.
    """
    config, judge = network.config, _Judge(network, batch_size)
    longest, count = config.window_lengths[-1], 0
    held: deque[Pixels] = deque(maxlen=longest)

    def look(start: int, end: int) -> None:
        index = sampled_steps([[start, end]], count=config.segment_steps)[0] - (count - len(held))
        judge.add((start, end), np.stack([held[place] for place in index]))

    for chunk in chunks:
        for frame in chunk:
            held.append(frame)
            count += 1
            for length in config.window_lengths:
                hop = max(1, round(length * (1 - config.window_overlap)))
                if count >= length and (count - length) % hop == 0:
                    look(count - length, count)
    if 0 < count < config.window_lengths[0]:
        look(0, count)
    return judge.found()


class _Judge:
    """What both networks say of segments, a batch at a time."""

    def __init__(self, network: Scnn, batch_size: int) -> None:
        self._network, self._batch_size = network, batch_size
        self._waiting: list[tuple[tuple[int, int], Pixels]] = []
        self._windows: list[tuple[int, int]] = []
        self._proposal: list[Tensor] = []
        self._localization: list[Tensor] = []

    def add(self, window: tuple[int, int], frames: Pixels) -> None:
        self._waiting.append((window, frames))
        if len(self._waiting) == self._batch_size:
            self._look()

    def _look(self) -> None:
        if not self._waiting:
            return
        network, threshold = self._network, self._network.config.proposal_threshold
        windows = [window for window, _ in self._waiting]
        segments = torch.from_numpy(np.stack([frames for _, frames in self._waiting])).to(network.prior.device)
        self._waiting.clear()
        proposal = network.proposal(segments) if threshold > 0 else segments.new_zeros((len(segments), 2), dtype=torch.float)
        kept = (proposal.softmax(dim=1)[:, 1] >= threshold).cpu()
        if kept.any():
            self._windows += [window for window, keep in zip(windows, kept.tolist(), strict=True) if keep]
            self._proposal.append(proposal.cpu()[kept])
            self._localization.append(network.localization(segments[kept.to(segments.device)]).cpu())

    def found(self) -> Found:
        self._look()
        if not self._windows:
            return found([], [], [])
        pool = np.array(self._windows, np.int64)
        order = np.lexsort((pool[:, 0], pool[:, 1] - pool[:, 0]))  # as ``windows`` has them, which decides between equals
        proposal, localization = (torch.cat(parts)[order] for parts in (self._proposal, self._localization))
        outputs = ScnnOutput(torch.from_numpy(pool[order])[None], proposal[None], localization[None], self._network.prior)
        return decode(to_arrays(outputs), self._network.config)
