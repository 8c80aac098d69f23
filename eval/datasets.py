"""The data sets by name: where each keeps its videos and annotations below a folder, and whether all of it is there.

``find("thumos14", "/data/thumos14")`` gives a data set's files; ``find("synthetic")`` makes a small one if need be, so
that ``synthetic`` can be named wherever a data set can.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from tal_run.eval.annotations import SUBSETS, THUMOS_ENDINGS, GroundTruth, VideoTruth, read
from tal_run.eval.clip_lists import kinetics_clips, kinetics_truth, ucf101_clips
from tal_run.eval.multithumos import read_multithumos
from tal_run.extractors.errors import TalRunError
from tal_run.extractors.hooks import Hook, ignore_progress
from tal_run.extractors.names import choices
from tal_run.extractors.video import VideoError, probe
from tal_run.extractors.video_errors import VIDEO_ENDINGS
from tal_run.extractors.weights import cache_folder

DURATION_SLACK_S = 0.5  # containers and annotators round differently
# of `synthetic` made on demand: about a minute on one core
ON_DEMAND_VIDEOS, ON_DEMAND_S = 10, (20.0, 40.0)


# the cures of a damaged video that came from elsewhere
FETCH_OR_CONVERT = re.compile("; (fetch it again|convert|if it plays elsewhere|give the|do not trust).*", re.DOTALL)


class DatasetError(TalRunError):
    """A data set that is unknown, or not where it was looked for."""


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """One data set, as it is published.

    Attributes:
        name: what it is called here.
        about: for people.
        videos: subset -> folders that its videos may be in, below the data folder.
        annotations: files or folders that its ground truth may be in, below the data folder, best first.
        source: where to get it.
        look: of a made data set, its look: it can be made on demand.
        by_class: videos may lie in a folder a class.
        clips: of trimmed clips: what reads the names of all from the lists in a folder.
    """

    name: str
    about: str
    videos: Mapping[str, tuple[str, ...]]
    annotations: tuple[str, ...]
    source: str
    look: str | None = None
    by_class: bool = False
    clips: Callable[[Path], list[str]] | None = None


_BY_SUBSET = MappingProxyType({subset: (subset,) for subset in SUBSETS})
_THUMOS_VIDEOS = MappingProxyType({"validation": ("validation", "val"), "testing": ("test", "testing")})
_ACTIVITYNET_VIDEOS = MappingProxyType(
    {
        "training": ("training", "train", "train_val"),
        "validation": ("validation", "val", "train_val"),
        "testing": ("testing", "test"),
    }
)

_KINETICS_VIDEOS = MappingProxyType(
    {
        "training": ("train", "training", "train_256"),
        "validation": ("val", "validation", "validate", "val_256"),
        "testing": ("test", "testing"),
    }
)

DATASETS: dict[str, Dataset] = {
    dataset.name: dataset
    for dataset in (
        Dataset(
            name="thumos14",
            about="THUMOS'14: 20 sports, 200 + 213 untrimmed videos",
            videos=_THUMOS_VIDEOS,
            annotations=("annotations", "annotation", "."),
            source="https://www.crcv.ucf.edu/THUMOS14/",
        ),
        Dataset(
            name="activitynet12",
            about="ActivityNet 1.2: 100 activities, 9,682 untrimmed videos",
            videos=_ACTIVITYNET_VIDEOS,
            annotations=("activity_net.v1-2.min.json", "activity_net.v1-2.json", "annotations/activity_net.v1-2.min.json"),
            source="http://activity-net.org/",
        ),
        Dataset(
            name="activitynet13",
            about="ActivityNet 1.3: 200 activities, 19,994 untrimmed videos",
            videos=_ACTIVITYNET_VIDEOS,
            annotations=("activity_net.v1-3.min.json", "annotations/activity_net.v1-3.min.json", "anet_anno_action.json"),
            source="http://activity-net.org/",
        ),
        Dataset(
            name="multithumos",
            about="MultiTHUMOS: 65 actions, densely, in THUMOS'14's videos",
            videos=_THUMOS_VIDEOS,
            annotations=("multithumos.json", "annotations/multithumos.json"),
            source="http://ai.stanford.edu/~syyeung/everymoment.html",
        ),
        Dataset(
            name="mexaction2",
            about="MEXaction2: bull charges and horse riding in 77 hours of archive film",
            videos=_THUMOS_VIDEOS,
            annotations=("annotations", "annotation", "."),
            source="http://mexculture.cnam.fr/Datasets/mex+action+dataset.html",
        ),
        Dataset(
            name="kinetics",
            about="Kinetics: 400 to 700 actions, trimmed clips of 10 s",
            videos=_KINETICS_VIDEOS,
            annotations=("annotations.csv", "annotations"),
            source="https://github.com/cvdfoundation/kinetics-dataset",
            by_class=True,
            clips=kinetics_clips,
        ),
        Dataset(
            name="ucf101",
            about="UCF101: 101 actions, 13,320 trimmed clips",
            videos={"training": ("UCF-101", "UCF101", "videos", ".")},
            annotations=("annotations.csv", "annotations"),
            source="https://www.crcv.ucf.edu/data/UCF101.php",
            by_class=True,
            clips=ucf101_clips,
        ),
        Dataset(
            name="synthetic",
            about="made video of 12 athletic actions, stadium look",
            videos=_BY_SUBSET,
            annotations=("annotations.json",),
            source="tal-run datasets synthesize",
            look="stadium",
        ),
        Dataset(
            name="synthetic-street",
            about="the same actions in streets, parks and rooms, filmed by hand",
            videos=_BY_SUBSET,
            annotations=("annotations.json",),
            source="tal-run datasets synthesize --look street",
            look="street",
        ),
    )
}


@dataclass(frozen=True, kw_only=True)
class DatasetFiles:
    """A data set in a folder of this machine."""

    dataset: Dataset
    folder: Path

    @property
    def annotations(self) -> Path:
        """The file or folder of its ground truth.

        Raises:
            DatasetError: none is there.
        """
        for candidate in self.dataset.annotations:
            path = self.folder / candidate
            texts = (path.rglob(f"*_{ending}.txt") for ending in THUMOS_ENDINGS) if path.is_dir() else ()
            if path.is_file() or any(any(matches) for matches in texts):
                return path
        raise DatasetError(
            f"{self.folder} holds no annotations of {self.dataset.name} ({' or '.join(self.dataset.annotations)}): "
            f"put them there, from {self.dataset.source}"
        )

    def truth(self) -> GroundTruth:
        """Its ground truth, every subset.

        Raises:
            DatasetError: none is there.
            AnnotationError: it cannot be true.
        """
        if self.dataset.name == "kinetics" and (clips := kinetics_truth(self.folder)).videos:
            return clips
        path = self.annotations
        if self.dataset.name == "multithumos" and (found := read_multithumos(path)):
            return found[0]
        return read(path)

    def annotated(self) -> list[str]:
        """Names of the videos that its annotations or lists say it has, every subset.

        Raises:
            DatasetError: there are none.
            AnnotationError: they cannot be true.
        """
        if self.dataset.clips is None:
            return [video.video_id for video in self.truth().videos]
        if names := self.dataset.clips(self.folder):
            return names
        raise DatasetError(
            f"{self.folder} holds no lists of {self.dataset.name}'s clips: put them there, from {self.dataset.source}"
        )

    def videos(self, subset: str | None = None) -> dict[str, Path]:
        """Its videos by id (of one subset), as they lie in the folder; sorted.

        Raises:
            DatasetError: there is no such subset, or there are no videos.
        """
        if subset is not None and subset not in self.dataset.videos:
            raise DatasetError(f"{self.dataset.name} has no subset {subset!r}: {choices(subset, self.dataset.videos)}")
        subsets = [subset] if subset else list(self.dataset.videos)
        folders = list(dict.fromkeys(name for each in subsets for name in self.dataset.videos[each]))
        found: dict[str, Path] = {}
        depths = ("*", "*/*") if self.dataset.by_class else ("*",)
        for path in (path for name in folders for depth in depths for path in sorted((self.folder / name).glob(depth))):
            if path.suffix.lower() not in VIDEO_ENDINGS or found.get(path.stem) == path:
                continue
            if path.stem in found:
                raise DatasetError(f"{found[path.stem]} and {path} are both called {path.stem}: keep one, or rename the other")
            found[path.stem] = path
        if not found:
            raise DatasetError(
                f"{self.folder} holds no videos of {self.dataset.name}: they belong into {' or '.join(folders)} below it"
            )
        return dict(sorted(found.items()))


def require_known(name: str) -> Dataset:
    """The data set of that name.

    Raises:
        DatasetError: there is none.
    """
    if name not in DATASETS:
        raise DatasetError(f"there is no data set {name!r}: {choices(name, DATASETS)}")
    return DATASETS[name]


def find(name: str, data: str | os.PathLike[str] | None = None, *, hook: Hook = ignore_progress) -> DatasetFiles:
    """A data set's files in the folder ``data``; a made data set that is not there is made.

    Args:
        name: one of ``DATASETS``.
        data: its folder; None: a folder of its name here or, for a made data set, in the cache.
        hook: is told how far the making is.

    Raises:
        DatasetError: the name is unknown, or the folder is not there.
        SyntheticError: it cannot be made.
    """
    dataset = require_known(name)
    folder = Path(name if data is None else data)
    try:
        if dataset.look:
            return DatasetFiles(dataset=dataset, folder=_made(dataset.look, data, hook))
        is_there = folder.is_dir()
    except OSError as error:
        raise DatasetError(f"cannot look into {folder} ({error.strerror}): give another folder") from error
    if not is_there:
        raise DatasetError(f"there is no folder {folder} with {name}: get it from {dataset.source} and give its folder")
    return DatasetFiles(dataset=dataset, folder=folder)


def _made(look: str, data: str | os.PathLike[str] | None, hook: Hook) -> Path:
    from tal_run.eval.synthetic import KEPT, fingerprint, synthesize

    # other code makes other videos: what an older version left in the cache is not taken for this one's
    folder = cache_folder().parent / "synthetic" / f"{look}-{fingerprint()}" if data is None else Path(data)
    is_made = (folder / "annotations.json").is_file()
    if not is_made and data is not None and (folder / KEPT).is_file():
        if (folder / "trimmed.csv").is_file():
            raise DatasetError(
                f"{folder} holds trimmed clips only, and no untrimmed videos: make some with `tal-run datasets synthesize "
                f"{folder} --videos N` and the look, seed and lengths that it was made with (see {folder / KEPT})"
            )
        raise DatasetError(
            f"{folder} holds a made data set that is not finished: run `tal-run datasets synthesize {folder}` again with "
            f"the options it was begun with (see {folder / KEPT})"
        )
    if not is_made:
        workers = os.cpu_count() or 1
        min_s, max_s = ON_DEMAND_S
        synthesize(folder, videos=ON_DEMAND_VIDEOS, look=look, min_s=min_s, max_s=max_s, workers=workers, hook=hook)
    return folder


@dataclass(kw_only=True)
class SubsetCheck:
    """How one subset of a data set fares against its annotations.

    Attributes:
        subset: its name; empty: the annotations do not say.
        annotated: videos in the annotations.
        instances: actions in them.
        present: videos of these that are there.
        faults: sentences on those that are there but wrong.
        missing: ids of those that are not there.
    """

    subset: str
    annotated: int = 0
    instances: int = 0
    present: int = 0
    faults: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)


def check(files: DatasetFiles, *, hook: Hook = ignore_progress) -> list[SubsetCheck]:
    """Compare a data set's annotations with its videos: are they there, can they be read, are they as long as said.

    Raises:
        DatasetError: there are no annotations.
        AnnotationError: they cannot be true.
    """
    truth = files.truth()
    videos: dict[str, Path] = {}
    for subset in files.dataset.videos:
        try:
            videos |= files.videos(subset)
        except DatasetError:
            continue  # each of its videos will be reported as missing
    checks = {subset: SubsetCheck(subset=subset) for subset in (*SUBSETS, "")}
    for number, video in enumerate(truth.videos):
        hook("checking", completed=number, total=len(truth.videos))
        tally = checks[video.subset or ""]
        tally.annotated += 1
        tally.instances += len(video.instances)
        path = videos.get(video.video_id) or videos.get(video.video_id.removeprefix("v_")) or videos.get(f"v_{video.video_id}")
        if path is None:
            tally.missing.append(video.video_id)
            continue
        tally.present += 1
        tally.faults += _faults(video, path, made_in=files.folder if files.dataset.look else None)
    return [tally for tally in checks.values() if tally.annotated]


def _faults(video: VideoTruth, path: Path, *, made_in: Path | None) -> Iterator[str]:
    try:
        duration_s = probe(path).duration_s
    except VideoError as error:
        # what was made here is neither fetched nor repaired
        again = f"; delete it and run `tal-run datasets synthesize {made_in}` again, with the options that it was made with"
        yield str(error) if made_in is None else FETCH_OR_CONVERT.sub(lambda _: again, str(error), count=1)
        return
    if video.duration_s is not None and abs(duration_s - video.duration_s) > DURATION_SLACK_S:
        yield f"{video.video_id} lasts {duration_s:.2f} s, but is annotated as {video.duration_s:.2f} s"
    beyond = [found for found in (*video.instances, *video.ambiguous) if found.end_s > duration_s + DURATION_SLACK_S]
    if beyond:
        yield f"{video.video_id} lasts {duration_s:.2f} s, but {len(beyond)} of its segments end later"
