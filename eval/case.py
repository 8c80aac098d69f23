"""What is to be judged: ground truth and detections of the same videos and classes, checked and put into arrays.

This is the border. Behind it nothing is checked again: every video and class is a number, every segment can be true,
detections stand by falling score.
"""

from __future__ import annotations

import difflib
import json
import os
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tal_run.eval.annotations import PAST_END_S, GroundTruth, Instance, VideoTruth, camel_case, read
from tal_run.eval.detections import Detections
from tal_run.eval.matching import BoolArray, FloatArray, IntArray
from tal_run.eval.protocols import EvaluationError
from tal_run.extractors.feature_record import MAX_SECONDS

ALL_SUBSETS = "all"
CLASS_LIST = "detclasslist.txt"  # THUMOS: lines of a class's number and name, beside the annotations

Also = Mapping[str, Sequence[str]]  # a label -> those that its instances count as, too


@dataclass(frozen=True, kw_only=True, eq=False)
class Case:
    """Ground truth and detections, ready to be judged.

    Attributes:
        video_ids: the videos [V].
        durations: their lengths in seconds, NaN where unknown [V].
        labels: the classes that have an instance, sorted [C].
        truth: the instances, in the order listed, seconds [N, 2].
        truth_videos: video of each [N].
        truth_classes: class of each [N].
        ambiguous: Ambiguous stretches, seconds [A, 2].
        ambiguous_videos: video of each [A].
        segments: the detections by falling score, of equal scores the one listed first; seconds [M, 2].
        videos: video of each [M].
        classes: class of each [M].
        scores: score of each [M].
        rows: row of each in the detections that were given [M].
        notes: what a reader of the result should know, in sentences.
    """

    video_ids: tuple[str, ...]
    durations: FloatArray
    labels: tuple[str, ...]
    truth: FloatArray
    truth_videos: IntArray
    truth_classes: IntArray
    ambiguous: FloatArray
    ambiguous_videos: IntArray
    segments: FloatArray
    videos: IntArray
    classes: IntArray
    scores: FloatArray
    rows: IntArray
    notes: tuple[str, ...] = ()

    @property
    def truth_groups(self) -> IntArray:
        """A number for each instance's class and video together [N]."""
        return self.truth_classes * len(self.video_ids) + self.truth_videos

    @property
    def groups(self) -> IntArray:
        """A number for each detection's class and video together [M]."""
        return self.classes * len(self.video_ids) + self.videos


def read_ground_truth(path: str | os.PathLike[str]) -> tuple[GroundTruth, dict[str, str]]:
    """Ground truth in any form that ``annotations.read`` knows, or MultiTHUMOS as one JSON file; class numbers to names.

    Raises:
        AnnotationError: there is none, it is in no known form, or an entry cannot be true.
        EvaluationError: the list of classes beside it cannot be read.
    """
    path = Path(path)
    if path.is_dir():
        return read(path), _class_list(path)
    if truth := _multithumos(path):
        return truth, {}
    return read(path), {}


def _class_list(folder: Path) -> dict[str, str]:
    """The numbers by which THUMOS's detections name classes; empty where no list is there."""
    names: dict[str, str] = {}
    for path in sorted(folder.rglob(CLASS_LIST)):
        try:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise EvaluationError(f"cannot read the list of classes {path} ({error}): mend it, or take it out") from None
        for number, line in enumerate(lines, 1):
            fields = line.split()
            if fields and len(fields) != 2:
                raise EvaluationError(f"{path}, line {number} is {line!r}: it needs a class's number and its name")
            if fields and names.setdefault(fields[0], fields[1]) != fields[1]:
                raise EvaluationError(f"{path}, line {number}: class {fields[0]} has two names: keep one")
    return names


def _multithumos(path: Path) -> GroundTruth | None:
    """MultiTHUMOS as ``{video: {"subset", "duration", "actions": [[class, start, end]]}}``; None: it is something else.

    Classes go by their numbers there, and so they do here: "12".
    """
    try:
        with path.open(encoding="utf-8-sig") as file:
            if '"actions"' not in file.read(4096):
                return None
        document = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        return None  # annotations.read will say what is wrong
    if not isinstance(document, dict) or not all(isinstance(e, dict) and "actions" in e for e in document.values()):
        return None
    videos = []
    for video_id, entry in document.items():
        try:
            found = [(str(int(label)), float(start), float(end)) for label, start, end in entry["actions"]]
            duration_s = float(entry["duration"])
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise EvaluationError(
                f"{path}: {video_id} cannot be read ({error}): it needs subset, duration and actions [[class, start, end]]"
            ) from None
        # 65 instances end after the duration that is noted, one of them by 45 minutes; no protocol looks at it
        duration_s = max([duration_s, *(end for _, _, end in found)])
        instances = tuple(Instance(start, end, video_id, label) for label, start, end in found)
        videos.append(VideoTruth(video_id=video_id, subset=entry.get("subset"), duration_s=duration_s, instances=instances))
    return GroundTruth(videos=tuple(videos))


def case_of(
    truth: GroundTruth,
    found: Detections,
    *,
    subset: str | None = None,
    excluded_videos: Collection[str] = (),
    also: Also | None = None,
    class_names: Mapping[str, str] | None = None,
    lenient: bool = False,
    class_agnostic: bool = False,
) -> Case:
    """Bring ground truth and detections together.

    Args:
        truth: every video that was annotated.
        found: the detections.
        subset: the videos to evaluate on; None: the subset that the detections are of; ``all``.
        excluded_videos: videos to leave out on both sides.
        also: labels whose instances count as others, too; where the ground truth lists them so already, nothing changes.
        class_names: names of classes that detections give by number.
        lenient: leave out detections that cannot be true, and say how many; else the first one is an error.
        class_agnostic: labels of detections count for nothing; all are put into one class.

    Raises:
        EvaluationError: a detection cannot be true, or nothing is left to evaluate on.
    """
    truth = _counting_also(truth, also or {})
    found = _named(found, truth, class_names or {})
    notes: list[str] = []
    found = _without_faults(found, truth, None if class_agnostic else truth.labels, lenient=lenient, notes=notes)
    truth, named = _of_subset(truth, found, subset)
    if named:
        notes.append(f"evaluated on the subset {named!r}, of which the detections are")
    excluded = set(excluded_videos)
    if strangers := sorted(excluded - {video.video_id for video in truth.videos}):
        notes.append(f"excluded, but not there anyway: {', '.join(strangers[:5])}{' …' if len(strangers) > 5 else ''}")
    videos = [video for video in truth.videos if video.video_id not in excluded]
    labels = tuple(sorted({instance.label for video in videos for instance in video.instances}))
    if not labels:
        raise EvaluationError("no action is annotated in the videos that are left: there is nothing to evaluate on")
    if class_agnostic:
        found = replace(found, labels=labels[:1], classes=np.zeros(len(found), np.int64))
    case = in_arrays(videos, labels, found)
    _remark(case, len(found), notes)
    return replace(case, notes=tuple(notes))


def in_arrays(videos: Sequence[VideoTruth], labels: tuple[str, ...], found: Detections) -> Case:
    """A case of these videos and classes, without any check; detections of others are passed over."""
    video_numbers = {video.video_id: number for number, video in enumerate(videos)}
    label_numbers = {label: number for number, label in enumerate(labels)}
    instances = [instance for video in videos for instance in video.instances]
    stretches = [(stretch, number) for number, video in enumerate(videos) for stretch in video.ambiguous]
    of_video = np.array([video_numbers.get(_known(name, video_numbers), -1) for name in found.video_ids], np.int64)
    of_label = np.array([label_numbers.get(name, -1) for name in found.labels], np.int64)
    video_of, class_of = of_video[found.videos], of_label[found.classes]
    kept = np.flatnonzero((video_of >= 0) & (class_of >= 0))
    order = kept[np.argsort(-found.scores[kept], kind="stable")]
    return Case(
        video_ids=tuple(video_numbers),
        durations=np.array([np.nan if video.duration_s is None else video.duration_s for video in videos]),
        labels=labels,
        truth=np.array([(i.start_s, i.end_s) for i in instances], np.float64).reshape(-1, 2),
        truth_videos=np.array([video_numbers[i.video_id] for i in instances], np.int64),
        truth_classes=np.array([label_numbers[i.label] for i in instances], np.int64),
        ambiguous=np.array([(stretch.start_s, stretch.end_s) for stretch, _ in stretches], np.float64).reshape(-1, 2),
        ambiguous_videos=np.array([number for _, number in stretches], np.int64),
        segments=found.segments[order],
        videos=video_of[order],
        classes=class_of[order],
        scores=found.scores[order],
        rows=order,
    )


def _remark(case: Case, given: int, notes: list[str]) -> None:
    if not given:
        notes.append("there are no detections")
    elif given > len(case.rows):
        notes.append(f"{counted(given - len(case.rows), 'detection')} of videos or classes that are not evaluated on")
    empty = set(case.truth_videos.tolist()) - set(case.videos.tolist())
    if given and empty:
        notes.append(f"{len(empty)} of {counted(len(case.video_ids), 'video')} with instances, but without a detection")
    twins = len(case.truth) - len(np.unique(np.column_stack([case.truth_groups, case.truth]), axis=0))
    if twins:
        notes.append(f"{counted(twins, 'instance')} listed again in the ground truth: each counts")


def _counting_also(truth: GroundTruth, also: Also) -> GroundTruth:
    """Ground truth in which instances of some labels stand under others, too."""
    if not also:
        return truth
    if strangers := [label for label in also if label not in truth.labels]:
        raise EvaluationError(f"{strangers[0]!r} is no label of the ground truth: {_choices(strangers[0], truth.labels)}")
    videos = []
    for video in truth.videos:
        there = {(i.label, i.start_s, i.end_s) for i in video.instances}
        more = [
            Instance(i.start_s, i.end_s, i.video_id, other)
            for i in video.instances
            for other in also.get(i.label, ())
            if (other, i.start_s, i.end_s) not in there
        ]
        videos.append(replace(video, instances=(*video.instances, *dict.fromkeys(more))))
    return replace(truth, videos=tuple(videos))


def _named(found: Detections, truth: GroundTruth, names: Mapping[str, str]) -> Detections:
    """Detections whose classes go by name: numbers are looked up, where no label is written so."""
    known = set(truth.labels)
    labels = tuple(label if label in known else names.get(label, label) for label in found.labels)
    if len(set(labels)) == len(labels):
        return replace(found, labels=labels)
    numbers = {label: number for number, label in enumerate(dict.fromkeys(labels))}
    renumbered = np.array([numbers[label] for label in labels], np.int64)
    return replace(found, labels=tuple(numbers), classes=renumbered[found.classes])


def _of_subset(truth: GroundTruth, found: Detections, subset: str | None) -> tuple[GroundTruth, str]:
    """The videos to evaluate on and, where the detections alone decided that, which subset they are."""
    there = {video.subset for video in truth.videos}
    if subset == ALL_SUBSETS or (subset is None and len(there) < 2):
        return truth, ""
    if subset is not None:
        return truth.subset(subset), ""
    of_video = {video.video_id: video.subset for video in truth.videos}
    known = (_known(name, of_video) for name in found.video_ids)
    hit = Counter(of_video[name] for name in known if name in of_video)
    named = sorted(map(str, hit))
    if len(named) > 1:
        counts = ", ".join(f"{name} ({counted(count, 'video')})" for name, count in hit.items())
        raise EvaluationError(f"the detections are of several subsets, {counts}: say on which to evaluate, or on all")
    if not named:
        choices = ", ".join(sorted(str(name) for name in there))
        raise EvaluationError(f"there are no detections to tell the subset by: name it ({choices})")
    (name,) = hit
    return replace(truth, videos=tuple(video for video in truth.videos if video.subset == name)), str(name)


def _known(video_id: str, videos: Collection[str]) -> str:
    """A video's id as the ground truth has it: ActivityNet's files are called ``v_`` and the id."""
    if video_id in videos:
        return video_id
    other = video_id.removeprefix("v_") if video_id.startswith("v_") else f"v_{video_id}"
    return other if other in videos else video_id


def _without_faults(
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
            raise EvaluationError(f"{found.place(first)}: {say(first)}{others}; or have such detections left out (--lenient)")
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


class _Say:
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
            labels=_choices(label, self.truth.labels),
            videos=_choices(video, [v.video_id for v in self.truth.videos]),
        )


def _faults(found: Detections, truth: GroundTruth, labels: Sequence[str] | None) -> Iterator[tuple[str, BoolArray, _Say]]:
    """What can be wrong with detections: in short, which rows, and the sentence for one of them."""
    start, end = found.segments[:, 0], found.segments[:, 1]
    of_video = {video.video_id: video for video in truth.videos}
    known = [_known(name, of_video) for name in found.video_ids]
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
        yield about, bad, _Say(found, truth, text)


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


def _choices(name: str, names: Sequence[str]) -> str:
    """What somebody may have meant who wrote a name that is not there."""
    plain = {re.sub(r"[\W_]+", "", other).lower(): other for other in names}
    alike = plain.get(re.sub(r"[\W_]+", "", camel_case(name)).lower())
    close = [alike] if alike else difflib.get_close_matches(name, names[:2000], n=2, cutoff=0.6)
    if close:
        return f"did you mean {' or '.join(map(repr, close))}?"
    shown = ", ".join(sorted(names)[:5])
    return f"there {'is' if len(names) == 1 else 'are'} {shown}{' …' if len(names) > 5 else ''}"
