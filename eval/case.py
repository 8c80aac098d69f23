"""What is to be judged: ground truth and detections of the same videos and classes, checked and put into arrays.

This is the border. Behind it nothing is checked again: every video and class is a number, every segment can be true,
detections stand by falling score.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tal_run.eval.annotations import GroundTruth, Instance, VideoTruth, read
from tal_run.eval.detections import Detections
from tal_run.eval.faults import choices, counted, known_video, without_faults
from tal_run.eval.matching import FloatArray, IntArray
from tal_run.eval.multithumos import read_multithumos
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
    return read_multithumos(path) or (read(path), {})


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
    _require_possible_times(truth)
    truth = _counting_also(truth, also or {}, found.labels)
    found = _named(found, truth, class_names or {})
    notes: list[str] = []
    found = without_faults(found, truth, None if class_agnostic else truth.labels, lenient=lenient, notes=notes)
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
    of_video = np.array([video_numbers.get(known_video(name, video_numbers), -1) for name in found.video_ids], np.int64)
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
        notes.append(f"{counted(len(empty), 'video')} with instances, but without a detection")
    twins = len(case.truth) - len(np.unique(np.column_stack([case.truth_groups, case.truth]), axis=0))
    if twins:
        notes.append(f"{counted(twins, 'instance')} listed again in the ground truth: each counts")


def _require_possible_times(truth: GroundTruth) -> None:
    for video in truth.videos:
        for listed in (*video.instances, *video.ambiguous):
            if listed.end_s > MAX_SECONDS:
                raise EvaluationError(
                    f"the ground truth of {video.video_id} has a segment from {listed.start_s:g} to {listed.end_s:g} s, beyond "
                    "any video: give seconds"
                )


def _counting_also(truth: GroundTruth, also: Also, detected: Collection[str]) -> GroundTruth:
    """Ground truth in which instances of some labels stand under others, too."""
    if not also:
        return truth
    if strangers := [label for label in also if label not in truth.labels]:
        raise EvaluationError(f"{strangers[0]!r} is no label of the ground truth: {choices(strangers[0], truth.labels)}")
    known = {*truth.labels, *detected}
    if strangers := [other for others in also.values() for other in others if other not in known]:
        raise EvaluationError(
            f"{strangers[0]!r}, as which instances should count, is no label of the ground truth nor of a detection: "
            f"{choices(strangers[0], sorted(known))}"
        )
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
    if subset not in (None, ALL_SUBSETS) and there == {None}:
        raise EvaluationError(f"the ground truth does not say which videos are {subset!r}: give one that does, or no subset")
    if subset == ALL_SUBSETS or (subset is None and len(there) < 2):
        return truth, ""
    if subset is not None:
        return truth.subset(subset), ""
    of_video = {video.video_id: video.subset for video in truth.videos}
    known = (known_video(name, of_video) for name in found.video_ids)
    hit = Counter(of_video[name] for name in known if name in of_video)
    named = sorted(map(str, hit))
    if len(named) > 1:
        counts = ", ".join(f"{name} ({counted(count, 'video')})" for name, count in hit.items())
        raise EvaluationError(
            f"the detections are of several subsets, {counts}: say on which to evaluate, or on all (--subset)"
        )
    if not named:
        there_are = " or ".join(sorted(str(name) for name in there))
        raise EvaluationError(f"there are no detections to tell the subset by: name it (--subset {there_are})")
    (name,) = hit
    return replace(truth, videos=tuple(video for video in truth.videos if video.subset == name)), str(name)
