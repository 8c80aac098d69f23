"""All trainings of ``methods.py``: which methods, which ablations, with which numbers, and what the papers say of their order.

Numbers that are not the papers' are those that fit the data: features 256 wide, snippets of 0.375 s, actions of 7 snippets in
the median (THUMOS14: 3.2 s, 5 snippets of 0.64 s), videos of 100. They and the iterations were chosen on the validation
videos, once for each method; all ablations of a method have them alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from methods_runs import Row, Training, detections_of

from tal_run.extractors.features import Features
from tal_run.models import Detection
from tal_run.models.autoloc import AutoLocConfig, direct_optimization
from tal_run.models.head import TrainedHead
from tal_run.models.scnn import ScnnConfig
from tal_run.models.wsad import WSADConfig
from tal_run.models.wtalc import WTALCConfig

WHOLE = Row()


@dataclass(frozen=True)
class Order:
    """What a paper found: rows from better to worse, at which overlap of which of its tables, and its numbers."""

    method: str
    rows: tuple[str, ...]
    where: str
    published: tuple[float, ...]


WTALC = WTALCConfig(iterations=1_500, learning_rate=1e-3)
WSAD = WSADConfig(iterations=1_500, learning_rate=1e-3)
AUTOLOC = AutoLocConfig(streams=1, classification_iterations=1_500, localization_iterations=600)
SCNN = ScnnConfig(iterations=2_000, decay_every=1_000, batch_size=8)
BOTH = {"{}": WHOLE, "{}, code's inference": Row(changes={"inference": "code"})}


def wsad(name: str, **changes: Any) -> Training:
    """A run of Tables 3 to 5 or Figures 2 and 3, localized in both ways."""
    rows = {pattern.format(name): row for pattern, row in BOTH.items()}
    return Training(method="WSAD", head="wsad", config=replace(WSAD, **changes), timed=False, rows=rows)


def autoloc(rows: Mapping[str, Row], **changes: Any) -> Training:
    return Training(method="AutoLoc", head="autoloc", config=replace(AUTOLOC, **changes), timed=False, rows=rows)


def scnn(rows: Mapping[str, Row], **changes: Any) -> Training:
    return Training(method="S-CNN", head="scnn", config=replace(SCNN, **changes), timed=True, rows=rows)


def directly(trained: TrainedHead, features: Features) -> list[Detection]:
    """AutoLoc's boundary branch, trained on the video itself."""
    found = direct_optimization(trained.network, features.data, config=trained.config)  # type: ignore[arg-type]
    return detections_of(trained, features, found)


def trainings() -> list[Training]:
    """All of them, by method."""
    return [
        Training(method="W-TALC", head="wtalc", config=WTALC, timed=False, rows={"whole": WHOLE}),
        wsad("whole"),
        wsad("balanced BCE only", metric_loss="none"),
        wsad("balanced BCE + contrastive", metric_loss="contrastive"),
        wsad("softmax + triplet", classifier="softmax"),
        wsad("BCE + triplet", classifier="bce"),
        wsad("cosine distance", distance="cosine"),
        wsad("Euclidean distance", distance="euclidean"),
        wsad("learned metric", distance="learned"),
        wsad("no blocks", block=None),
        *(wsad(f"clip {'none' if clip is None else int(clip)}", clip=clip) for clip in (None, 2.0, 3.0, 5.0, 10.0)),
        autoloc(
            {
                "whole": WHOLE,
                "OIC selection": Row(changes={"proposals": "all"}),
                "direct optimization": Row(localize=directly, how="25 iterations"),
            }
        ),
        autoloc({"inner only": WHOLE}, objective="inner"),
        scnn(
            {
                "whole": WHOLE,
                "without proposal network": Row(changes={"proposal_threshold": 0.0}),
                "without length prior": Row(changes={"use_prior": False}),
            }
        ),
        scnn({"without localization network": WHOLE}, classification_share=1.0),
        scnn({"without classification network": WHOLE}, classification_share=0.0),
        scnn({"without overlap loss": WHOLE}, overlap_weight=0.0),
    ]
