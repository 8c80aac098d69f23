"""AherNet's Algorithm 1, an iteration at a time, and what has to be made of videos for it (Section 3.4, 4.4).

    untrimmed videos ─┬──────────────────────────┐
                      └ foreground segments ─┐   │
    moments ─────────────────────────────────┴───┴─ one batch ─ lines 3, 4, 5, 6

Line 1 is ``AherNet.start_from`` a model of the untrimmed videos alone (``variant="star"``). AherNet_A- has no adversaries: its
generators learn from real context before the rest, by ``context_loss``, and are fixed from then on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tal_run.models.ahernet import HEAD
from tal_run.models.ahernet_network import AherNet, AherNetConfig, resized
from tal_run.models.head import Step, TrainingVideo, make_batch, update


def foregrounds(video: TrainingVideo) -> list[TrainingVideo]:
    """The instances of an untrimmed video, cut out: moments. Borders within a snippet take in all of it."""
    cut = []
    for (start, end), kind in zip(video.segments.reshape(-1, 2), video.segment_classes, strict=True):
        features = video.features[int(np.floor(start)) : int(np.ceil(end))]
        if len(features):
            cut.append(TrainingVideo(features=features, classes=(int(kind),)))
    return cut


def alternation_step(
    network: AherNet,
    updates: Sequence[Step],
    *,
    videos: Sequence[TrainingVideo],
    moments: Sequence[TrainingVideo],
    num_classes: int,
    config: AherNetConfig,
    rng: np.random.Generator,
) -> dict[str, float]:
    """One iteration of Algorithm 1.

    Args:
        network: in training mode.
        updates: of ``ahernet.steps``, kept from one iteration to the next.
        videos: untrimmed, with segments; their foreground segments are added to the moments.
        moments: with one class each and no segments.
        num_classes: C.
        config: losses.
        rng: where videos are cut, if they are.

    Returns:
        The losses by name, as the last update saw them.
    """
    rows = [*videos, *(cut for video in videos for cut in foregrounds(video)), *moments]
    batch = make_batch(rows, num_classes=num_classes, rng=rng, max_snippets=config.max_snippets)
    device = str(next(network.parameters()).device)
    return update(HEAD, network, updates, batch.to(device), config=config)


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


def context_pairs(videos: Sequence[TrainingVideo], *, config: AherNetConfig) -> ContextPairs:
    """Every instance with the background on either side of it, up to the next instance or the video's end.

    Raises:
        ValueError: there are no instances.
    """
    moments, sides, there = [], [], []
    for video in videos:
        features, borders = torch.from_numpy(video.features), video.segments.reshape(-1, 2)
        for start, end in borders:
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
