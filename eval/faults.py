"""What can be wrong with a detection, seen beside its ground truth, and how it is said: the place, the field, the cure."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace

import numpy as np

from tal_run.eval.annotations import PAST_END_S, GroundTruth
from tal_run.eval.detections import Detections
from tal_run.eval.matching import BoolArray
from tal_run.eval.protocols import EvaluationError
from tal_run.extractors.feature_record import MAX_SECONDS
from tal_run.extractors.names import meant


def known_video(video_id: str, videos: Collection[str]) -> str:
    """A video's id as the ground truth has it: ActivityNet's files are called ``v_`` and the id."""
    if video_id in videos:
        return video_id
    other = video_id.removeprefix("v_") if video_id.startswith("v_") else f"v_{video_id}"
    return other if other in videos else video_id


def without_faults(
    found: Detections, truth: GroundTruth, labels: Sequence[str] | None, *, lenient: bool, notes: list[str]
) -> Detections:
    """The detections that can be true; those that cannot are an error or, if ``lenient``, are left out."""
    good = np.ones(len(found), np.bool_)
    for about, bad, say in _faults(found, truth, labels):
        rows = np.flatnonzero(bad & good)
        if not len(rows):
            continue
        if not lenient:
            first = int(rows[0])
            others = f" ({len(rows) - 1} more such)" if len(rows) > 1 else ""
            said = f"{say(first)}{others}"
            glue = " Or" if said.endswith("?") else "; or"
            raise EvaluationError(f"{found.place(first)}: {said}{glue} have such detections left out (--lenient)")
        good[rows] = False
        notes.append(f"{counted(len(rows), 'detection')} left out: {about}")
    if good.all():
        return found
    kept = np.flatnonzero(good)
    return replace(
        found,
        videos=found.videos[kept],
        classes=found.classes[kept],
        segments=found.segments[kept],
        scores=found.scores[kept],
        lines=None if found.lines is None else found.lines[kept],
    )


class _Sentence:
    """A sentence about one row."""

    def __init__(self, found: Detections, truth: GroundTruth, text: str) -> None:
        self.found, self.truth, self.text = found, truth, text

    def __call__(self, row: int) -> str:
        found = self.found
        start_s, end_s = found.segments[row].tolist()
        label, video = found.labels[found.classes[row]], found.video_ids[found.videos[row]]
        return self.text.format(
            start_s=start_s,
            end_s=end_s,
            score=found.scores[row],
            label=label,
            video=video,
            labels=choices(label, self.truth.labels),
            videos=choices(video, [v.video_id for v in self.truth.videos]),
        )


def _faults(found: Detections, truth: GroundTruth, labels: Sequence[str] | None) -> Iterator[tuple[str, BoolArray, _Sentence]]:
    """What can be wrong with detections: in short, which rows, and the sentence for one of them."""
    start, end = found.segments[:, 0], found.segments[:, 1]
    of_video = {video.video_id: video for video in truth.videos}
    known = [known_video(name, of_video) for name in found.video_ids]
    is_video = np.array([name in of_video for name in known], np.bool_)
    is_label = np.array([labels is None or label in labels for label in found.labels], np.bool_)
    lengths = [of_video[name].duration_s if name in of_video else None for name in known]
    limit = np.array([np.inf if length is None else length for length in lengths])[found.videos]
    for about, bad, text in (
        ("a score is no number", ~np.isfinite(found.scores), "score is {score}: give a number that is neither nan nor inf"),
        ("a start is no number", ~np.isfinite(start), "start_s is {start_s}: give seconds as a number"),
        ("an end is no number", ~np.isfinite(end), "end_s is {end_s}: give seconds as a number"),
        ("its times are beyond any video", end > MAX_SECONDS, "end_s is {end_s}, beyond any video: give seconds"),
        ("it ends before it starts", end < start, "end_s ({end_s}) is before start_s ({start_s}): swap the two"),
        ("it starts before its video", start < 0, "start_s is {start_s}: times are 0 or later, so cut it off at 0"),
        ("unknown video", ~is_video[found.videos], "video_id {video!r} is not in the ground truth: {videos}"),
        ("unknown label", ~is_label[found.classes], "label {label!r} is not in the ground truth: {labels}"),
        (
            f"it lies past its video's end, by more than {PAST_END_S:g} s",
            (end > limit + PAST_END_S) | (start > limit),
            "from {start_s} to {end_s} s lies past its video's end: cut it off there, or mend the time axis",
        ),
        (
            "it is listed twice",
            _seen_before(found),
            "{label!r} from {start_s} to {end_s} s with score {score} is listed twice: list it once",
        ),
    ):
        yield about, bad, _Sentence(found, truth, text)


def _seen_before(found: Detections) -> BoolArray:
    """Which detections are there before, alike in everything [M]."""
    seen = np.zeros(len(found), np.bool_)
    by_score = np.argsort(found.scores, kind="stable")
    ranked = found.scores[by_score]
    tied = np.zeros(len(found) + 1, np.bool_)
    tied[1:-1] = ranked[1:] == ranked[:-1]
    rows = by_score[tied[1:] | tied[:-1]]  # twins have one score: the others, mostly all, need no further look
    columns = [column[rows] for column in (found.scores, *found.segments.T, found.classes, found.videos)]
    order = np.lexsort((rows, *columns))
    same = np.ones(max(len(rows) - 1, 0), np.bool_)
    for column in columns:
        same &= column[order][1:] == column[order][:-1]
    seen[rows[order[1:][same]]] = True  # the first of them stays
    return seen


def counted(number: int, thing: str) -> str:
    """``1 video``, ``2 videos``."""
    return f"{number} {thing}{'' if number == 1 else 's'}"


def choices(name: str, names: Sequence[str]) -> str:
    """What somebody may have meant who wrote a name that is not there."""
    if likely := meant(name, names):
        return likely
    shown = ", ".join(sorted(names)[:5])
    return f"there {'is' if len(names) == 1 else 'are'} {shown}{' …' if len(names) > 5 else ''}"
