"""AherNet^0: the lower bound that AherNet is compared with (Section 4.3 of the paper that ``ahernet.py`` cites).

"A purely classification-based model which learns a snippet-level classifier to predict the action score sequentially and
splits action instances with multi-threshold strategy on the score sequence."

Open in the paper and chosen here: the classifier is linear; each snippet of a moment learns the moment's class; the thresholds
are those of ``AherNetConfig.thresholds``, applied to each class's probabilities; a run scores the mean of its probabilities;
runs compete by NMS as AherNet's own segments do.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tal_run.models.ahernet_network import AherNetConfig
from tal_run.models.head import Batch, Found, found
from tal_run.models.postprocess import nms, runs_above


class SnippetOutput(NamedTuple):
    """Lengths of videos [B] and class logits of their snippets [B, T, C]."""

    lengths: Tensor
    snippets: Tensor


class SnippetClassifier(nn.Module):
    """Each snippet by itself."""

    def __init__(self, feature_dim: int, num_classes: int) -> None:
        super().__init__()
        self.classifier = nn.Linear(feature_dim, num_classes)

    def forward(self, features: Tensor, lengths: Tensor) -> SnippetOutput:
        """Videos [B, T, D], of which the first ``lengths`` [B] rows count."""
        return SnippetOutput(lengths, self.classifier(features))


def snippet_loss(outputs: SnippetOutput, batch: Batch, *, moment: Tensor) -> dict[str, Tensor]:
    """Cross entropy of the moments' snippets; ``moment`` [B] says which videos are moments."""
    inside = torch.arange(outputs.snippets.shape[1], device=moment.device) < outputs.lengths[:, None]  # [B, T]
    counted = inside & moment[:, None]
    terms = F.cross_entropy(
        outputs.snippets.transpose(1, 2), batch.labels.argmax(dim=1)[:, None].expand_as(inside), reduction="none"
    )
    return {"snippets": (terms * counted).sum() / counted.sum().clamp(min=1)}


def decode_snippets(outputs: Any, config: AherNetConfig) -> Found:
    """Runs of snippets above any of the thresholds, best first; ``SnippetOutput`` of arrays, B = 1."""
    logits = np.asarray(outputs.snippets[0], np.float64)
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities = powers / powers.sum(axis=1, keepdims=True)  # [T, C]
    segments, scores = [], []
    for curve in probabilities.T:
        runs = np.unique(np.concatenate([runs_above(curve, threshold) for threshold in config.thresholds]), axis=0)
        borders, area = runs + (0, 1), np.concatenate([[0.0], np.cumsum(curve)])
        means = (area[borders[:, 1]] - area[borders[:, 0]]) / (borders[:, 1] - borders[:, 0])
        kept = nms(borders, means, tiou_threshold=config.nms_tiou)[: config.most]
        segments.append(borders[kept])
        scores.append(means[kept])
    every = found(segments, scores, range(len(segments)))
    return Found(every.segments[: config.most], every.scores[: config.most], every.classes[: config.most])
