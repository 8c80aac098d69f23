"""AherNet's Algorithm 1, an iteration at a time, and what has to be made of videos for it (Section 3.4, 4.4).

    untrimmed videos ─┬──────────────────────────┐
                      └ foreground segments ─┐   │
    moments ─────────────────────────────────┴───┴─ one batch ─ lines 3, 4, 5, 6

Line 1 is ``AherNet.start_from`` a model of the untrimmed videos alone (``variant="star"``), which is trained before as a head
of its own: one such model serves any number of runs. AherNet_A- has no adversaries: its
generators learn from real context before the rest, by ``context_loss``, and are fixed from then on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Adam

from tal_run.extractors.hooks import Hook, ignore_progress
from tal_run.models.ahernet_network import AherNet, AherNetConfig, resized
from tal_run.models.head import HeadError, TrainedHead, TrainingVideo

STEP = "learning context"


def foregrounds(video: TrainingVideo) -> list[TrainingVideo]:
    """The instances of an untrimmed video, cut out: moments. Borders within a snippet take in all of it."""
    cut = []
    for (start, end), kind in zip(video.segments.reshape(-1, 2), video.segment_classes, strict=True):
        features = video.features[int(np.floor(start)) : int(np.ceil(end))]
        if len(features):
            cut.append(TrainingVideo(features=features, classes=(int(kind),), trimmed=True))
    return cut


def draw(videos: Sequence[TrainingVideo], config: AherNetConfig, *, rng: np.random.Generator) -> list[TrainingVideo]:
    """What a batch is made of: untrimmed videos, foreground segments of these, and moments; none of the first and last twice.

    Raises:
        HeadError: the run learns from what is not there.
    """
    moments = [video for video in videos if video.trimmed]
    untrimmed = [video for video in videos if not video.trimmed]
    check_kinds(config, untrimmed=len(untrimmed), moments=len(moments))
    wants_untrimmed, wants_moments = config.learns_from
    if not wants_untrimmed:
        return _some(moments, config.batch_size, rng)
    if not wants_moments:
        return _some(untrimmed, config.batch_size, rng)
    count = min(max(1, round(config.batch_size * config.moment_share)), config.batch_size - 1)
    chosen = _some(untrimmed, config.batch_size - count, rng)
    cut = [segment for video in chosen for segment in _some(foregrounds(video), config.foregrounds_per_video, rng)]
    return [*chosen, *cut, *_some(moments, count, rng)]


def check_kinds(config: AherNetConfig, *, untrimmed: int, moments: int) -> None:
    """See that a run has something to learn from.

    Raises:
        HeadError: it has not.
    """
    wants_untrimmed, wants_moments = config.learns_from
    if wants_moments and not moments:
        raise HeadError(
            f"AherNet (variant {config.variant}) learns from trimmed moments and there are none: give some (--moments, or "
            "--moment-classes), or learn from untrimmed videos alone (--config variant=star)"
        )
    if wants_untrimmed and not untrimmed:
        raise HeadError(
            f"AherNet (variant {config.variant}) learns from untrimmed videos whose times are known and there are none: give "
            "some (--annotations), or learn from moments alone (--config variant=M)"
        )


def _some(videos: Sequence[TrainingVideo], count: int, rng: np.random.Generator) -> list[TrainingVideo]:
    return [videos[index] for index in rng.permutation(len(videos))[:count]]


def begin(
    network: nn.Module,
    videos: Sequence[TrainingVideo],
    config: AherNetConfig,
    *,
    start: TrainedHead | None,
    rng: np.random.Generator,
    hook: Hook = ignore_progress,
) -> None:
    """Line 1 of Algorithm 1, and what AherNet_A- learns before all else.

    Args:
        network: not trained yet.
        videos: all that there is to learn from.
        config: the run's.
        start: a model of untrimmed videos; None: from nothing.
        rng: draws the batches that generators learn from.
        hook: told of these.

    Raises:
        HeadError: the run does not start from anything, or not from this.
    """
    if start is not None:
        _start(network, start, config)
    if config.variant == "A-" and isinstance(network, AherNet):
        learn_context(network, videos, config, rng=rng, hook=hook)


def _start(network: nn.Module, start: TrainedHead, config: AherNetConfig) -> None:
    if not (isinstance(network, AherNet) and config.learns_from[0] and config.variant != "star"):
        raise HeadError(f"AherNet (variant {config.variant}) starts from nothing: leave out --start-from")
    if not isinstance(start.network, AherNet):
        raise HeadError(f"AherNet cannot start from a head of {start.head.name}: give one that was trained with variant=star")
    for name in ("length", "stem", "widths", "ratios"):
        own, other = getattr(config, name), getattr(start.config, name)
        if own != other:
            raise HeadError(f"AherNet cannot start from a model with {name}={other}, having {own} itself: train both alike")
    network.start_from(start.network)


@dataclass(frozen=True, kw_only=True, eq=False)
class ContextPairs:
    """Foreground segments and what really surrounds them.

    Attributes:
        moments: [N, D, L].
        before: background up to the segment's start [N, D, L / 2]; anything where there is none.
        after: background from its end on.
        has_before: bool [N].
        has_after: bool [N].
    """

    moments: Tensor
    before: Tensor
    after: Tensor
    has_before: Tensor
    has_after: Tensor

    def to(self, device: torch.device) -> ContextPairs:
        """The same on another device."""
        parts = {entry.name: getattr(self, entry.name).to(device) for entry in fields(self)}
        return ContextPairs(**parts)


def context_pairs(
    videos: Sequence[TrainingVideo], *, config: AherNetConfig, rng: np.random.Generator | None = None
) -> ContextPairs:
    """Instances with the background on either side of them, up to the next instance or the video's end.

    Args:
        videos: untrimmed.
        config: their lengths.
        rng: draws one instance of each video; None: all of them.

    Raises:
        ValueError: there are no instances.
    """
    moments, sides, there = [], [], []
    for video in videos:
        features, borders = torch.from_numpy(video.features), video.segments.reshape(-1, 2)
        for start, end in borders if rng is None or not len(borders) else borders[[rng.integers(len(borders))]]:
            first, behind = int(np.floor(start)), int(np.ceil(end))
            earlier = max([0, *(int(np.ceil(e)) for s, e in borders if s < start)])
            later = min([len(features), *(int(np.floor(s)) for s, e in borders if e > end)])
            if behind <= first:
                continue
            moments.append(resized(features[first:behind], config.moment_length))
            around = (features[earlier:first], features[behind:later])
            there.append([len(rows) > 0 for rows in around])
            half = config.moment_length // 2
            sides.append([resized(rows if len(rows) else features[:1], half) for rows in around])
    if not moments:
        raise ValueError("there is no context to learn from: none of the videos has an instance")
    before, after = (torch.stack(part) for part in zip(*sides, strict=True))
    has_before, has_after = torch.tensor(there).unbind(dim=1)
    return ContextPairs(moments=torch.stack(moments), before=before, after=after, has_before=has_before, has_after=has_after)


def context_loss(network: AherNet, pairs: ContextPairs) -> Tensor:
    """What AherNet_A- lessens before all else, a mean over both sides.

    "L2 loss between the converted background from foreground and the real background" (4.4).
    """
    terms = torch.cat([network.before(pairs.moments) - pairs.before, network.after(pairs.moments) - pairs.after])
    there = torch.cat([pairs.has_before, pairs.has_after])
    distance = terms.square().mean(dim=(1, 2))  # [2 N]
    return torch.where(there, distance, 0.0).sum() / there.sum().clamp(min=1)


def learn_context(
    network: AherNet,
    videos: Sequence[TrainingVideo],
    config: AherNetConfig,
    *,
    rng: np.random.Generator,
    hook: Hook = ignore_progress,
) -> None:
    """Have the generators learn what really surrounds the instances of untrimmed videos, with an Adam of their own."""
    with_instances = [video for video in videos if len(video.segments)]
    optimizer = Adam([*network.before.parameters(), *network.after.parameters()], lr=config.learning_rate)
    device = next(network.parameters()).device
    for iteration in range(config.context_iterations):
        hook(STEP, completed=iteration, total=config.context_iterations)
        pairs = context_pairs(_some(with_instances, config.batch_size, rng), config=config, rng=rng)
        optimizer.zero_grad()
        context_loss(network, pairs.to(device)).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    hook(STEP, completed=config.context_iterations, total=config.context_iterations)
