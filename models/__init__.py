"""Heads: class activation over time in, scored segments out. One file a paper, arrays all the way to ``Detection``."""

from tal_run.models.actionbytes import localize
from tal_run.models.detection import Detection

__all__ = ["HEADS", "Detection"]

# name -> how it localizes one class: (latent [T, L], activation [T], config) -> segments [N, 2], scores [N]
HEADS = {"actionbytes": localize}
