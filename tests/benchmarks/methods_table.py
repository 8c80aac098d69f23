"""All trainings of ``methods.py``: which methods, which ablations, with which numbers, and what the papers say of their order.

Numbers that are not the papers' are those that fit the data: features 256 wide, snippets of 0.375 s, actions of 7 snippets in
the median (THUMOS14: 3.2 s, 5 snippets of 0.64 s), videos of 100. They and the iterations were chosen on the validation
videos, once for each method; all ablations of a method have them alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from methods_data import UNSEEN
from methods_runs import Row, Training, detections_of

from tal_run.extractors.features import Features
from tal_run.models import Detection
from tal_run.models.actionbytes_network import ActionBytesHeadConfig, on_top_of
from tal_run.models.ahernet_network import AherNetConfig
from tal_run.models.autoloc import AutoLocConfig, direct_optimization, lengths_of
from tal_run.models.head import TrainedHead
from tal_run.models.scnn import ScnnConfig
from tal_run.models.wsad import WSADConfig
from tal_run.models.wtalc import WTALCConfig
from tal_run.pipeline.cross_dataset import carried_over
from tal_run.pipeline.training_data import TrainingSet

WHOLE = Row()

WTALC = WTALCConfig(iterations=1_000, learning_rate=1e-3)
WSAD = WSADConfig(iterations=500, learning_rate=2e-4)
# one epoch of B, as in the paper; no gate, which nothing but removes actions here
AUTOLOC = AutoLocConfig(
    streams=1,
    gate_threshold=0.0,
    classification_iterations=1_000,
    localization_iterations=90,
)
# on features all layers are new; narrower than by default, as the data are few
SCNN = ScnnConfig(iterations=500, decay_every=250, batch_size=2, max_snippets=64, width=64, segment_steps=8)
ACTIONBYTES = ActionBytesHeadConfig(iterations=2_000, clusters=100)
# A sixteenth of the authors' widths, a quarter of their bins: videos have a hundred snippets, not a thousand. Few anchors
# overlap an action by more than 0.8, so the best one of each is foreground too, and few videos are soon learnt by heart, so
# they are cut anew each time (neither is in the paper; both help the oracle on the validation videos).
AHERNET = AherNetConfig(
    best_is_foreground=True,
    iterations=300,
    decay_every=150,
    context_iterations=100,
    batch_size=8,
    length=128,
    moment_length=64,
    stem=(64, 64),
    widths=(32, 32, 64, 64, 128, 128),
    learning_rate=1e-3,
    max_snippets=40,
)
BOTH = {"{}": WHOLE, "{}, code's inference": Row(changes={"inference": "code"})}


def wsad(name: str, **changes: Any) -> Training:
    """A run of Tables 3 to 5 or Figures 2 and 3, localized in both ways."""
    rows = {pattern.format(name): row for pattern, row in BOTH.items()}
    return Training(method="WSAD", head="wsad", config=replace(WSAD, **changes), learn="labels", rows=rows)


def autoloc(rows: Mapping[str, Row], **changes: Any) -> Training:
    """A run of Table 3."""
    return Training(method="AutoLoc", head="autoloc", config=replace(AUTOLOC, **changes), learn="labels", rows=rows)


def scnn(rows: Mapping[str, Row], **changes: Any) -> Training:
    """A run of Table 3 or Figure 7, on features."""
    rows = {name: replace(row, each_overlap=True) for name, row in rows.items()}
    return Training(method="S-CNN", head="scnn", config=replace(SCNN, **changes), learn="times", rows=rows)


def actionbytes(learn: str, rows: Mapping[str, Row], *, test: str = "{}", **changes: Any) -> Training:
    """A run of Tables 1 and 2."""
    config = replace(ACTIONBYTES, **changes)
    return Training(method="ActionBytes", head="actionbytes", config=config, learn=learn, rows=rows, test=test)


def ahernet(name: str, variant: Any, learn: str = "moments") -> Training:
    """A run of Tables 1 and 2."""
    config = replace(AHERNET, variant=variant)
    return Training(method="AherNet", head="ahernet", config=config, learn=learn, rows={name: WHOLE}, test="{}/moments")


def directly(trained: TrainedHead, features: Features) -> list[Detection]:
    """AutoLoc's boundary branch, trained on the video itself."""
    found = direct_optimization(trained.network, features.data, config=trained.config)  # type: ignore[arg-type]
    return detections_of(trained, features, found)


def with_lengths(config: AutoLocConfig, timed: TrainingSet) -> AutoLocConfig:
    """What the authors' configuration for THUMOS14 knows: how long each class's actions are."""
    durations = np.concatenate([video.segments[:, 1] - video.segments[:, 0] for video in timed.videos])
    classes = np.concatenate([video.segment_classes for video in timed.videos])
    return replace(config, lengths=lengths_of(durations, classes, num_classes=len(timed.labels)))


def with_proposals(trained: TrainedHead, features: Features) -> list[Detection]:
    """ActionBytes on top of a W-TALC (4.4)."""
    return on_top_of(trained).localize(features)


def carried(trained: TrainedHead, features: Features) -> list[Detection]:
    """Classes that were never seen, by word vectors."""
    return carried_over(trained, UNSEEN).localize(features)


def trainings() -> list[Training]:
    """All of them, by method."""
    return [*weak(), *timed(), *from_clips()]


def on_real() -> list[Training]:
    """Real video: learnt from times, and from labels of videos. The numbers are those of made video."""
    learners = (
        Training(method="S-CNN", head="scnn", config=SCNN, learn="real times", rows={"times": Row(each_overlap=True)}),
        Training(
            method="AherNet",
            head="ahernet",
            config=replace(AHERNET, variant="star"),
            learn="real times",
            rows={"star, times": WHOLE},
        ),
        Training(
            method="W-TALC",
            head="wtalc",
            config=WTALC,
            learn="real labels",
            rows={
                "labels": WHOLE,
                "labels, on top of W-TALC": Row(localize=with_proposals, how="proposals", method="ActionBytes"),
            },
        ),
        replace(wsad(""), rows={"labels": WHOLE, "labels, code's inference": Row(changes={"inference": "code"})}),
        autoloc({"labels": WHOLE}),
    )
    return [
        replace(each, learn=each.learn if "real" in each.learn else f"real {each.learn}", test="real/test") for each in learners
    ]


def weak() -> list[Training]:
    """Those that learn from labels of videos."""
    of_wtalc = {"whole": WHOLE}
    of_wtalc["weak: on top of W-TALC"] = Row(localize=with_proposals, how="proposals", method="ActionBytes")
    return [
        Training(method="W-TALC", head="wtalc", config=WTALC, learn="labels", rows=of_wtalc),
        wsad("whole"),
        wsad("balanced BCE only", metric_loss="none"),
        wsad("balanced BCE + contrastive", metric_loss="contrastive"),
        wsad("softmax + triplet", classifier="softmax"),
        wsad("BCE + triplet", classifier="bce"),
        *(
            replace(each, late=True)
            for each in (
                wsad("cosine distance", distance="cosine"),
                wsad("Euclidean distance", distance="euclidean"),
                wsad("learned metric", distance="learned"),
                wsad("no blocks", block=None),
                *(wsad(f"clip {'none' if clip is None else int(clip)}", clip=clip) for clip in (None, 2.0, 3.0, 5.0, 10.0)),
            )
        ),
        autoloc(
            {
                "whole": WHOLE,
                "OIC selection": Row(changes={"proposals": "all"}),
                "direct optimization": Row(localize=directly, how="25 iterations"),
            }
        ),
        autoloc({"inner only": WHOLE}, objective="inner"),
        replace(autoloc({"whole, lengths known": WHOLE}), fit=with_lengths),
    ]


def timed() -> list[Training]:
    """Those that learn from times."""
    return [
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


def from_clips() -> list[Training]:
    """Those that learn from trimmed clips, alone or beside untrimmed videos of other classes."""
    plain, proposed = {"proposals": False}, {"proposals": True}
    found: list[Training] = []
    for task, learn, test, changes in (
        ("What2When", "clips", "{}", {}),
        ("zero-shot", "seen clips", "{}/unseen", {"regime": "zero-shot", "unseen": UNSEEN}),
    ):
        how: dict[str, Any] = {} if task == "What2When" else {"localize": carried, "how": "word vectors"}
        base = {f"{task}: baseline": Row(changes=plain, **how), f"{task}: baseline + proposals": Row(changes=proposed, **how)}
        mined = {f"{task}: mined": Row(changes=plain, **how), f"{task}: mined + proposals": Row(changes=proposed, **how)}
        fixed = {f"{task}: fixed 2-snippet + proposals": Row(changes=proposed, **how)}
        found += [
            actionbytes(learn, base, test=test, rounds=0, **changes),
            actionbytes(learn, mined, test=test, **changes),
            actionbytes(learn, fixed, test=test, fragments="fixed", **changes),
        ]
    return [
        *found,
        ahernet("0", "0"),
        ahernet("minus", "minus"),
        ahernet("M", "M"),
        ahernet("A-", "A-"),
        ahernet("full", "full"),
        ahernet("star (oracle)", "star", "times of moments"),
    ]


# ---- what the papers found ----


@dataclass(frozen=True)
class Order:
    """Two rows of which a paper found the first to be better, and its numbers."""

    method: str
    better: str
    worse: str
    published: str


OF_WSAD = (
    Order("WSAD", "whole", "balanced BCE only", "THUMOS14 mean of .1 .3 .5 .7: 37.1 > 23.8"),
    Order("WSAD", "balanced BCE + contrastive", "balanced BCE only", "37.0 > 23.8"),
    Order("WSAD", "whole", "balanced BCE + contrastive", "37.1 > 37.0"),
    Order("WSAD", "whole", "softmax + triplet", "Figure 2"),
    Order("WSAD", "whole", "BCE + triplet", "Figure 2"),
    Order("WSAD", "whole", "learned metric", "Figure 3"),
    Order("WSAD", "learned metric", "Euclidean distance", "Figure 3"),
    Order("WSAD", "learned metric", "cosine distance", "Figure 3"),
    Order("WSAD", "whole", "no blocks", "@.5: 29.6 > 25.5"),
    Order("WSAD", "whole", "clip none", "@.5: 29.6 > 27.1"),
    Order("WSAD", "whole", "clip 2", "@.5: 29.6 > 26.8"),
    Order("WSAD", "whole", "clip 10", "@.5: 29.6 > 27.6"),
)
ORDERS = (
    *OF_WSAD,
    *(
        replace(order, better=f"{order.better}, code's inference", worse=f"{order.worse}, code's inference")
        for order in OF_WSAD
    ),
    Order("AutoLoc", "whole", "OIC selection", "ActivityNet mean: 16.0 > 8.5"),
    Order("AutoLoc", "whole", "direct optimization", "16.0 > 12.6"),
    Order("AutoLoc", "direct optimization", "OIC selection", "12.6 > 8.5"),
    Order("AutoLoc", "OIC selection", "inner only", "8.5 > 1.6"),
    Order("AutoLoc", "whole, lengths known", "whole", "not published"),
    Order("S-CNN", "whole", "without proposal network", "THUMOS14 @.5: 19.0 > 17.1"),
    Order("S-CNN", "whole", "without localization network", "Figure 7"),
    Order("S-CNN", "whole", "without classification network", "Figure 7"),
    Order("S-CNN", "whole", "without length prior", "@.5: 19.0 > 12.3 (authors' predictions)"),
    Order("ActionBytes", "What2When: mined", "What2When: baseline", "THUMOS14 @.5: 11.3 > 8.4"),
    Order("ActionBytes", "What2When: mined + proposals", "What2When: mined", "15.5 > 11.3"),
    Order("ActionBytes", "What2When: mined + proposals", "What2When: fixed 2-snippet + proposals", "15.5 > 14.1"),
    Order("ActionBytes", "zero-shot: mined", "zero-shot: baseline", "@.5: 4.1 > 3.1"),
    Order("ActionBytes", "zero-shot: mined + proposals", "zero-shot: mined", "6.3 > 4.1"),
    Order("AherNet", "minus", "0", "ActivityNet mean: 12.8 > 10.2"),
    Order("AherNet", "M", "minus", "13.2 > 12.8"),
    Order("AherNet", "A-", "M", "14.7 > 13.2"),
    Order("AherNet", "full", "A-", "17.2 > 14.7"),
    Order("AherNet", "star (oracle)", "full", "22.6 > 17.2"),
)
