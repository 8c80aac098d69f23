"""The protocols by which mean average precision of timed detections is reckoned, and what lies between them.

A number without its protocol cannot be compared. ``PROTOCOLS`` holds six, told by what each does at every step:

===============  ======================================================  ==============  ====================  ===============
name             who is matched with whom                                enough overlap  AP                    Ambiguous
===============  ======================================================  ==============  ====================  ===============
``thumos14``     each instance, in the file's order, takes the free      greater than    not interpolated      see below
                 detection that overlaps it most                         the threshold
``activitynet``  each detection, by falling score, takes the free        at least the    interpolated          not looked at
                 instance that it overlaps most                          threshold
``wtalc``        each detection, by falling score, takes the free        at least        not interpolated      see below
                 instance that is listed first
``wsad``         as ``activitynet``                                      at least        interpolated          as ``wtalc``
``mexaction2``   as ``thumos14``                                         greater than    not interpolated      not looked at
``multithumos``  as ``wtalc``; and mAP over frames                       at least        not interpolated      as ``wtalc``
===============  ======================================================  ==============  ====================  ===============

- *Used by*: ``thumos14`` the THUMOS'14 toolkit and S-CNN; ``activitynet`` ActivityNet's toolkit, AutoLoc, ActionFormer and
  OpenTAD, on THUMOS14 too; ``wtalc`` the code of W-TALC, on which ActionBytes builds; ``wsad`` the code of Islam & Radke;
  ``mexaction2`` S-CNN's MEXaction2 table (two classes, tIoU 0.5); ``multithumos`` the MultiTHUMOS papers.
- *AP*: not interpolated, the sum of the precision at each right detection over the number of instances; interpolated, that
  precision is the best one there or further on (PASCAL VOC 2010). The mean is over the classes that have an instance.
- *Ambiguous* stretches: ``thumos14`` drops a wrong detection that shares any time with one, whatever its class, and keeps
  a right one; ``wtalc`` and ``wsad`` drop every detection that shares any time with one before anything is matched.
- *Time*: continuous, but for ``wtalc``, ``wsad`` and ``multithumos``: there all times, of both sides and of Ambiguous, are
  rounded to snippets of 16 frames at 25 a second, round(t * 25 / 16) with halves to even. A detection that is left
  with no snippet is dropped; an instance with none stays, counts, and can never be found.
- *Ties*: of equal scores the detection listed first goes first. Of equal overlaps the rules of ``matching`` hold.
- *Per frame* (``multithumos``): 25 frames a second, pooled over all videos; a frame's score for a class is that of the best
  detection that covers it, and a frame that none covers is not retrieved. Frames of one score have no order among
  themselves: they come together, AP = sum over scores of (share of the positives there) x (precision down to there). A class
  that no frame shows has no such AP. The papers' frames have a score each; how they are ranked within a detection is not
  theirs to say, so this is ours.
- *Videos*: a detection in a video without instances is wrong. On THUMOS14's test set, video_test_0001292 is such a video (it
  has Ambiguous stretches only): "212 videos" counts its detections. Papers on 210 videos left out 270, 1292 and 1496.

What it does to a number: AutoLoc's published detections on THUMOS14's test set, in percent (``tests/eval/test_goldens.py``)::

    tIoU                        0.1    0.3    0.5    0.7
    thumos14                   29.3   26.5   18.5    5.4
    activitynet, 212 videos    46.3   35.5   21.1    5.6   at 0.5: +2.6 to thumos14
    activitynet, 210 videos    47.3   36.2   21.6    5.8   +0.5 for three videos less
    wtalc                      46.2   35.3   24.6    6.0   +3.5 to activitynet, +6.1 to thumos14
    wsad                       47.4   36.2   25.3    6.3   +4.2 to activitynet, +0.7 to wtalc

Where it comes from: one rule of ``activitynet`` changed at a time, the same detections, points of mAP at tIoU 0.1 and 0.5::

    the instance chooses, not the detection      -16.7   -2.3
    AP not interpolated                           -1.0   -0.6
    the overlap must be greater                    0.0   -0.1
    the first listed instance, not the best       -0.2    0.0
    Ambiguous spares what is wrong                +1.0   +0.4
    Ambiguous drops all that touch it             +0.9   +0.3
    time in snippets, both sides                  +0.2   +4.0
    time in snippets, detections alone            -0.4   +0.2
    time in snippets, truth alone                 -0.2   +0.1

- *The instance chooses* the detection that fits best, not the one that is surest, so the surer ones around it are wrong. Many
  detections around one action are punished hard, and the more the lower the threshold: this is why S-CNN suppresses at
  a tIoU of 0.1 below the evaluation's.
- *Snippets* are 0.64 s, and half of THUMOS14's actions are shorter than 3.2 s. Where both sides are rounded to the same few
  places they agree more often than they did; AutoLoc's own segments lie on a grid of half a second.
- *Interpolation* never lowers an AP; *sparing* what is wrong never does either.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from tal_run.eval.matching import FloatArray, Rule
from tal_run.extractors.errors import TalRunError
from tal_run.extractors.names import choices

# ignored; wrong: drops wrong detections that touch one; any: drops all that touch one, before matching
Ambiguous = Literal["ignored", "wrong", "any"]

TENTHS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
ACTIVITYNET_TIOUS = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)


class EvaluationError(TalRunError):
    """Something that cannot be evaluated as asked; the message says what and how to mend it."""


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Time in snippets of ``snippet_frames`` at ``fps``."""

    snippet_frames: int = 16  # W-TALC: 16-frame snippets
    fps: int = 25  # W-TALC: videos at 25 fps

    def snippets(self, seconds: FloatArray) -> FloatArray:
        """Times in seconds as whole snippets, halves to even."""
        rounded: FloatArray = np.rint(seconds * self.fps / self.snippet_frames)
        return rounded


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """What an evaluator does at every step.

    Attributes:
        name: what it is called here.
        about: whose it is, for people.
        tious: the thresholds it is usually reported at.
        rule: who is matched with whom (``matching.Rule``).
        strict: the overlap must be greater than the threshold; else equal is enough.
        interpolated: AP with interpolated precision.
        ambiguous: what Ambiguous stretches do.
        grid: what times are rounded to; None: continuous.
        labels: the classes that there are; None: those of the ground truth.
        frame_fps: frames a second of the mAP over frames; None: there is none.
    """

    name: str
    about: str
    tious: tuple[float, ...]
    rule: Rule
    strict: bool
    interpolated: bool
    ambiguous: Ambiguous
    grid: Grid | None = None
    labels: tuple[str, ...] | None = None
    frame_fps: float | None = None


PROTOCOLS: dict[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            name="thumos14",
            about="THUMOS'14 toolkit, S-CNN",
            tious=TENTHS,
            rule="truth",
            strict=True,
            interpolated=False,
            ambiguous="wrong",
        ),
        Protocol(
            name="activitynet",
            about="ActivityNet toolkit, AutoLoc, ActionFormer, OpenTAD",
            tious=ACTIVITYNET_TIOUS,
            rule="best",
            strict=False,
            interpolated=True,
            ambiguous="ignored",
        ),
        Protocol(
            name="wtalc",
            about="W-TALC's code, ActionBytes",
            tious=TENTHS,
            rule="first",
            strict=False,
            interpolated=False,
            ambiguous="any",
            grid=Grid(),
        ),
        Protocol(
            name="wsad",
            about="Islam & Radke's code",
            tious=TENTHS,
            rule="best",
            strict=False,
            interpolated=True,
            ambiguous="any",
            grid=Grid(),
        ),
        Protocol(
            name="mexaction2",
            about="S-CNN's MEXaction2 table",
            tious=(0.5,),
            rule="truth",
            strict=True,
            interpolated=False,
            ambiguous="ignored",
            labels=("BullChargeCape", "HorseRiding"),
        ),
        Protocol(
            name="multithumos",
            about="MultiTHUMOS: instances and frames",
            tious=TENTHS,
            rule="first",
            strict=False,
            interpolated=False,
            ambiguous="any",
            grid=Grid(),
            frame_fps=25.0,
        ),
    )
}


def protocol_named(name: str) -> Protocol:
    """The protocol of that name.

    Raises:
        EvaluationError: there is none.
    """
    if name not in PROTOCOLS:
        raise EvaluationError(f"there is no protocol {name!r}: {choices(name, PROTOCOLS)}")
    return PROTOCOLS[name]


def checked_tious(thresholds: Sequence[float]) -> tuple[float, ...]:
    """Thresholds as they are written: 0.1 + 2 * 0.1 becomes 0.3.

    Raises:
        EvaluationError: there are none, one is outside 0..1, or two are one.
    """
    tious = tuple(round(float(threshold), 10) for threshold in thresholds)
    for tiou in tious:
        if not 0 < tiou <= 1:
            raise EvaluationError(f"a tIoU threshold of {tiou:g} says nothing: give some above 0 and up to 1")
    if not tious or len(set(tious)) < len(tious):
        raise EvaluationError(f"the tIoU thresholds {list(tious)} are none, or one is there twice: give each once")
    return tious
