"""Heads: features or class activation over time in, scored segments out. One file a paper; ``head.py`` says what all share."""

from tal_run.models.actionbytes import localize
from tal_run.models.detection import Detection, best_first
from tal_run.models.head import HEADS

__all__ = ["HEADS", "LOCALIZERS", "Detection", "best_first"]

# what needs no training: name -> (latent [T, L], activation of one class [T], config, typical length) -> segments, scores
LOCALIZERS = {"actionbytes": localize}
