"""Data for ``methods.py``: made video of the street look with the starter's features, and what is cut out of it.

    SEEDS      training, validation and test videos, and trimmed clips: a seed each, so nothing is in two of them
    Made       draws them and watches them; a part is a ``Split``, to be learnt from or tested on
    sections   what is left of videos where only actions of some classes occur (AherNet's two sets of videos)
    Data       all that ``methods_table.py`` learns from and tests on, by name

Why the street look: the starter learnt all twelve labels from the stadium look, other seeds, and there its features part them
almost by a straight line, so that every method would do equally well. It has never seen the street, where a linear classifier
has something to do. Its logits are not used, its 256 features are.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tal_run.eval.annotations import GroundTruth, Instance, Stretch, VideoTruth, read, read_clips
from tal_run.eval.synthetic import fingerprint, synthesize
from tal_run.extractors.backbone import WindowConfig
from tal_run.extractors.feature_files import FeatureFolder
from tal_run.extractors.features import Features
from tal_run.extractors.timegrid import TimeGrid
from tal_run.models.head import TrainingVideo, needs_of
from tal_run.pipeline.training_data import TrainingSet, seconds_to_borders

LOOK = "street"
SEEDS = {"training": 301, "validation": 302, "test": 303, "clips": 304}
VIDEOS = {"training": 90, "validation": 24, "test": 48}
CLIPS = 180
# AherNet: every other class is known by moments alone
MOMENTS = ("cartwheel", "diving", "high jump", "jumping jacks", "punching", "squat")
# zero-shot: never seen, each with something like it among the rest
UNSEEN = ("high jump", "soccer kick", "squat", "waving")
LEAST_SECTION_S = 3.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Watched:
    """One video: what is true of it, and its features."""

    truth: VideoTruth
    features: Features


@dataclass(frozen=True, kw_only=True, eq=False)
class Split:
    """Videos that belong together.

    Attributes:
        videos: in order.
        labels: the classes that there are, sorted.
    """

    videos: tuple[Watched, ...]
    labels: tuple[str, ...]

    @property
    def truth(self) -> GroundTruth:
        """Of all videos, as one set to test on."""
        return GroundTruth(videos=tuple(replace(video.truth, subset="testing") for video in self.videos))

    @cached_property
    def sha256(self) -> str:
        """Of all that is learnt from or tested on."""
        digest = hashlib.sha256(repr(self.labels).encode())
        for video in self.videos:
            digest.update(repr((video.truth, video.features.data.shape, video.features.grid)).encode())
            digest.update(np.ascontiguousarray(video.features.data, "<f4").data)
        return digest.hexdigest()

    def limited_to(self, labels: Collection[str]) -> Split:
        """The same videos, with the instances of some classes only."""
        kept = tuple(
            replace(v, truth=replace(v.truth, instances=tuple(i for i in v.truth.instances if i.label in labels)))
            for v in self.videos
        )
        return Split(videos=kept, labels=tuple(sorted(labels)))

    def training_set(self, *, timed: bool) -> TrainingSet:
        """To learn from; without times, videos of which nothing is known are left out, as ``read_training_set`` does."""
        return TrainingSet(
            videos=tuple(learnt(video, self.labels, timed=timed) for video in self.videos if timed or video.truth.instances),
            labels=self.labels,
            needs=needs_of(self.videos[0].features),
            sha256=hashlib.sha256(f"{self.sha256} {timed}".encode()).hexdigest(),
        )


def learnt(video: Watched, labels: tuple[str, ...], *, timed: bool) -> TrainingVideo:
    """A video to learn from, with its times or without."""
    index = {label: number for number, label in enumerate(labels)}
    classes = tuple(sorted({index[instance.label] for instance in video.truth.instances}))
    if not timed:
        return TrainingVideo(features=video.features.data, classes=classes)
    times = np.array([(i.start_s, i.end_s) for i in video.truth.instances], np.float64).reshape(-1, 2)
    borders = seconds_to_borders(video.features.grid, times)
    return TrainingVideo(
        features=video.features.data,
        classes=classes,
        segments=borders,
        segment_classes=np.array([index[i.label] for i in video.truth.instances], np.int64),
    )


class Made:
    """All made data below a folder, made and watched if it is not there yet.

    Args:
        folder: where videos and features lie.
        workers: processes that draw at a time.
    """

    def __init__(self, folder: Path, *, workers: int = 2) -> None:
        self.folder, self.workers = folder, workers

    def make(self, part: str) -> None:
        """Draw what is missing of a part: training, validation, test or clips."""
        counts = {"videos": 0, "trimmed": CLIPS} if part == "clips" else {"videos": VIDEOS[part], "trimmed": 0}
        if not self._is_made(part):
            synthesize(self.folder / "made" / part, seed=SEEDS[part], look=LOOK, workers=self.workers, **counts)

    def _is_made(self, part: str) -> bool:
        """Whether all is there, of this generator: to plan videos anew only to find them there takes minutes."""
        recipe = self.folder / "made" / part / "recipe.json"
        there = recipe.is_file() and json.loads(recipe.read_text(encoding="utf-8")).get("generator") == fingerprint()
        if part == "clips":
            return there and self._clip_table.is_file() and len(read_clips(self._clip_table)) == CLIPS
        return there and self._annotations(part).is_file() and len(self.truth(part).videos) == VIDEOS[part]

    def truth(self, part: str) -> GroundTruth:
        """What is true of untrimmed videos that are made."""
        return read(self._annotations(part))

    def _annotations(self, part: str) -> Path:
        return self.folder / "made" / part / "annotations.json"

    @property
    def _clip_table(self) -> Path:
        return self.folder / "made" / "clips" / "trimmed.csv"

    def files(self, part: str) -> list[Path]:
        """The videos of a part that are there, whole."""
        return sorted(path for path in (self.folder / "made" / part).rglob("*.mp4") if not path.name.startswith("."))

    def split(self, part: str) -> Split:
        """Untrimmed videos; they are made and watched already."""
        truth, folder = self.truth(part), FeatureFolder(self.folder / "features" / part)
        videos = tuple(Watched(truth=video, features=folder.read(video.video_id)) for video in truth.videos)
        return Split(videos=videos, labels=labels_of(truth))

    def clips(self) -> Split:
        """Trimmed clips: those of an action are one instance from end to end, the others have none."""
        folder, videos = FeatureFolder(self.folder / "features" / "clips"), []
        for clip in read_clips(self._clip_table):
            features = folder.read(clip.video_id)
            found = () if clip.label is None else (Instance(0.0, features.grid.duration_s, clip.video_id, clip.label),)
            truth = VideoTruth(video_id=clip.video_id, duration_s=features.grid.duration_s, instances=found)
            videos.append(Watched(truth=truth, features=features))
        return Split(videos=tuple(videos), labels=tuple(sorted({i.label for v in videos for i in v.truth.instances})))


def real(folder: Path, part: str) -> Split:
    """Real video; it is composed and watched already."""
    from methods_real import read_real

    truth, features = read_real(folder / "real" / part, part), FeatureFolder(folder / "features" / f"real_{part}")
    videos = tuple(Watched(truth=video, features=features.read(video.video_id)) for video in truth.videos)
    return Split(videos=videos, labels=labels_of(truth))


def watch(folder: Path, part: str, files: list[Path], *, backbone: str, windows: WindowConfig | None = None) -> Iterator[str]:
    """Features of files, those that are not there yet; says what it did about each."""
    from tal_run.extractors import create_backbone
    from tal_run.pipeline.feature_batch import FeatureBatch

    target = folder / "features" / part
    target.mkdir(parents=True, exist_ok=True)
    batch = FeatureBatch(FeatureFolder(target, layout="tal-run"), backbone=create_backbone(backbone), windows=windows)
    for file in files:
        yield batch.make(str(file), file.stem).kind


def labels_of(truth: GroundTruth) -> tuple[str, ...]:
    """The classes that occur, sorted."""
    return tuple(sorted({instance.label for video in truth.videos for instance in video.instances}))


# ---- parts of videos ----


def sections(split: Split, labels: Collection[str]) -> Split:
    """What is left of videos where actions of these classes occur and of no others, as videos of their own.

    A video is cut midway between an action of these classes and the next one that is not; where two such overlap, neither is
    kept. Windows at a cut see up to a second of what lies behind it.
    """
    found = []
    for video in split.videos:
        for number, (start, end) in enumerate(_kept(video, labels)):
            found.append(_cut(video, start, end, f"{video.truth.video_id}_{number}"))
    long_enough = [video for video in found if video.features.grid.duration_s >= LEAST_SECTION_S]
    return Split(videos=tuple(long_enough), labels=tuple(sorted(labels)))


def _kept(video: Watched, labels: Collection[str]) -> list[tuple[int, int]]:
    """The sections [start, end) of a video, in snippets."""
    count, grid = video.features.grid.count, video.features.grid
    wanted, other = np.zeros(count, bool), np.zeros(count, bool)
    for instance in video.truth.instances:
        start, end = np.round(seconds_to_borders(grid, [instance.start_s, instance.end_s])).astype(int)
        (wanted if instance.label in labels else other)[start : max(end, start + 1)] = True
    wanted = _whole(wanted, other)
    # each snippet belongs to what is nearest to it: an action of these classes, or another
    owner = np.where(other, -1, np.where(wanted, 1, 0))
    if not (owner == 1).any():
        return []
    marks = np.flatnonzero(owner)
    nearest = marks[np.abs(np.arange(count)[:, None] - marks[None]).argmin(axis=1)]
    ours = np.concatenate([[False], owner[nearest] == 1, [False]])
    changes = np.flatnonzero(ours[1:] != ours[:-1])
    return [(int(a), int(b)) for a, b in zip(changes[0::2], changes[1::2], strict=True)]


def _whole(wanted: NDArray[np.bool_], other: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Runs that nothing else overlaps."""
    padded = np.concatenate([[False], wanted, [False]])
    changes = np.flatnonzero(padded[1:] != padded[:-1])
    kept = np.zeros_like(wanted)
    for start, end in zip(changes[0::2], changes[1::2], strict=True):
        if other[start:end].any():
            other[start:end] = True
        else:
            kept[start:end] = True
    return kept


def _cut(video: Watched, start: int, end: int, name: str) -> Watched:
    """Snippets start..end of a video as a video of its own, whose time begins with its first cell."""
    grid = video.features.grid
    edges = grid.edges_s
    begin_s, end_s = float(edges[start]), float(edges[end])
    length_s = end_s - begin_s
    # a cell of the cut lies where it lay, less the time that is cut off before it
    offset_s = grid.start_s + start * grid.step_s - begin_s
    cut = TimeGrid(step_s=grid.step_s, window_s=grid.window_s, count=end - start, duration_s=length_s, start_s=offset_s)

    def moved(stretch: Stretch) -> tuple[float, float]:
        return max(0.0, stretch.start_s - begin_s), min(length_s, stretch.end_s - begin_s)

    instances = tuple(
        Instance(*moved(found), name, found.label)
        for found in video.truth.instances
        if found.start_s < end_s and found.end_s > begin_s
    )
    ambiguous = tuple(
        Stretch(*moved(found)) for found in video.truth.ambiguous if found.start_s < end_s and found.end_s > begin_s
    )
    truth = VideoTruth(video_id=name, duration_s=length_s, instances=instances, ambiguous=ambiguous)
    return Watched(
        truth=truth, features=replace(video.features, data=video.features.data[start:end], grid=cut, logits=None, labels=())
    )


# ---- everything by name ----


class Data:
    """What there is to learn from and to test on, by the names that ``methods_table.py`` gives it.

    Args:
        folder: of ``Made``.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._made = folder, Made(folder)
        self.split, self.learn = cache(self._split), cache(self._learn)

    def _split(self, name: str) -> Split:
        """``test`` and so on: untrimmed videos; behind a slash, which classes of it, ``moments`` or ``unseen``.

        ``moments``: sections in which nothing else happens. ``unseen``: whole videos, in which other things happen, too.
        ``real/test`` and ``real/training``: real video.
        """
        part, _, kind = name.partition("/")
        if part == "clips":
            return self._made.clips()
        if part == "real":
            return real(self._folder, kind)
        whole = self._made.split(part)
        match kind:
            case "moments":
                return sections(whole, MOMENTS)
            case "times":
                return sections(whole, set(whole.labels) - set(MOMENTS))
            case "unseen":
                return whole.limited_to(UNSEEN)
        return whole

    def _learn(self, name: str) -> TrainingSet:
        """A training set.

        ``labels``, ``times``: the training videos, with what is in them or when. ``clips``: trimmed, one label each; without
        the classes to be found later, ``seen clips``. ``times of moments``: sections of the training videos, for the oracle;
        ``times of the rest``: those with the other classes.
        ``real labels``, ``real times``: real video.
        ``moments``: clips of one half of the classes, and sections of the training videos with the other half, with times.
        """
        match name:
            case "real labels" | "real times":
                return self.split("real/training").training_set(timed=name == "real times")
            case "labels" | "times":
                return self.split("training").training_set(timed=name == "times")
            case "times of moments":
                return self.split("training/moments").training_set(timed=True)
            case "times of the rest":
                return self.split("training/times").training_set(timed=True)
            case "clips" | "seen clips":
                there = self.split("clips").labels
                return self._clips([label for label in there if name == "clips" or label not in UNSEEN])
        return _with_moments(self.split("training/times"), self._clips(MOMENTS))

    def _clips(self, labels: Collection[str]) -> TrainingSet:
        every = self.split("clips")
        kept = tuple(v for v in every.videos if any(i.label in labels for i in v.truth.instances))
        return Split(videos=kept, labels=tuple(sorted(labels))).training_set(timed=False)


def _with_moments(timed: Split, clips: TrainingSet) -> TrainingSet:
    """Untrimmed videos with times and, of other classes, moments."""
    labels = tuple(sorted({*timed.labels, *clips.labels}))
    videos = [learnt(video, labels, timed=True) for video in timed.videos]
    index = [labels.index(label) for label in clips.labels]
    videos += [
        TrainingVideo(features=video.features, classes=tuple(index[kind] for kind in video.classes), trimmed=True)
        for video in clips.videos
    ]
    return TrainingSet(
        videos=tuple(videos),
        labels=labels,
        needs=clips.needs,
        sha256=hashlib.sha256(f"{timed.sha256} {clips.sha256}".encode()).hexdigest(),
        moment_classes=tuple(sorted(index)),
    )
