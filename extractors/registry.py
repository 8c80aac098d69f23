"""The backbones by name."""

from __future__ import annotations

from tal_run.extractors.backbone import Backbone, BackboneError
from tal_run.extractors.hooks import Hook, ignore_progress
from tal_run.extractors.movinet import MoViNetA0Stream

EXTRACTORS: dict[str, type[Backbone]] = {
    "movinet-a0-stream": MoViNetA0Stream,
}
DEFAULT_BACKBONE = "movinet-a0-stream"


def require_known(name: str) -> str:
    """The name itself, if it is a backbone's.

    Raises:
        BackboneError: there is no backbone of that name.
    """
    if name not in EXTRACTORS:
        raise BackboneError(f"there is no backbone {name!r}: choose one of {', '.join(EXTRACTORS)}")
    return name


def create_backbone(name: str = DEFAULT_BACKBONE, *, hook: Hook = ignore_progress) -> Backbone:
    """The backbone of that name, its weights found or downloaded.

    Raises:
        BackboneError: there is no backbone of that name.
        WeightsError: its weights cannot be had.
    """
    return EXTRACTORS[require_known(name)](hook=hook)
