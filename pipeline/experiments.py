"""The papers' experiments: for each row of their tables, all that tal-run needs to be told to obtain it again.

An experiment is a table of a TOML file in ``data/experiments``: which head learns from which videos and which features, with
which numbers where they are not the head's defaults, on which videos it is tried, by which protocol, and what the paper got.
A file holds one experiment and its variants, each called after both: ``wsad-thumos14.toml`` has ``wsad-thumos14`` and, in
``[variants.clip2]``, ``wsad-thumos14-clip2``, which has whatever it does not say itself from the first.

``commands`` writes the whole chain, from videos to numbers; ``tal-run experiments show`` and docs/reproduce.md print that.
"""

from __future__ import annotations

import functools
import shlex
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from tal_run.extractors.errors import TalRunError
from tal_run.extractors.names import choices

FOLDER = Path(__file__).parent / "data" / "experiments"
AVERAGE, AUC = "average", "AUC"  # beside tIoUs, what can be published


class ExperimentError(TalRunError):
    """There is no such experiment."""


@dataclass(frozen=True, kw_only=True)
class Videos:
    """Annotated videos to learn from or to be tried on.

    Attributes:
        dataset: whose annotations (``tal-run datasets list``).
        subset: which of its videos; None: all.
        videos: the data set, or folder, whose videos they are, if it is another one.
        ground_truth: a file of annotations of one's own, instead of the data set's.
        exclude: videos that are left out of the evaluation.
    """

    dataset: str
    subset: str | None = None
    videos: str | None = None
    ground_truth: str | None = None
    exclude: tuple[str, ...] = ()

    @property
    def watched(self) -> str:
        """The data set that the videos lie in."""
        return self.videos or self.dataset


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """One row of a table.

    Attributes:
        name: what it is called here.
        file: the experiment whose variant it is, or itself.
        title: for people.
        paper: authors, place and year.
        table: where in the paper.
        head: the method (``tal-run train --head``).
        train: what it learns from.
        test: what it is tried on.
        moments: trimmed moments that it learns from beside, or instead of, videos.
        features: ``name`` of their folder, and the options of ``tal-run features``; none, if it learns from frames.
        frames: the folder with the videos whose frames it learns from; none, if it learns from features.
        prepare: what else to type before anything.
        protocol: whose rules the paper reckons by (``tal-run eval --protocol``).
        tious: at which overlaps.
        published: percent, by tIoU, ``average`` (over ``tious``), ``AUC`` (of proposals) or ``CLASS@tIoU``.
        config: the method's numbers, as texts, where they are not the head's defaults.
        detection: likewise those that only count when actions are sought.
        by_tiou: a number of the method that is the overlap it will be judged by: it seeks anew for each.
        checkpoint: the experiment whose trained head it takes; its own, usually.
        seed: of the training.
        extra: more options of ``tal-run train``.
        carried_over: what was learnt of its own labels is carried over to those of the videos that it is tried on.
        notes: what keeps the number from being comparable, or obtained.
    """

    name: str
    file: str
    title: str
    paper: str
    table: str
    head: str
    train: Videos
    test: Videos
    features: Mapping[str, Any] = field(default_factory=dict)
    frames: str = ""
    prepare: tuple[str, ...] = ()
    protocol: str
    tious: tuple[float, ...]
    published: Mapping[str, float]
    moments: Videos | None = None
    config: Mapping[str, str] = field(default_factory=dict)
    detection: Mapping[str, str] = field(default_factory=dict)
    by_tiou: str | None = None
    checkpoint: str = ""
    seed: int = 0
    extra: Mapping[str, str] = field(default_factory=dict)
    carried_over: bool = False
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.checkpoint:
            object.__setattr__(self, "checkpoint", self.name)

    @property
    def is_variant(self) -> bool:
        """Whether it is one of an experiment's variants."""
        return self.name != self.file


# ---- reading ----


@functools.cache
def experiments() -> Mapping[str, Experiment]:
    """All experiments by name, those of a file together."""
    found: dict[str, Experiment] = {}
    for name in _files():
        whole = tomllib.loads((FOLDER / f"{name}.toml").read_text(encoding="utf-8"))
        variants = whole.pop("variants", {})
        found[name] = _experiment(name, {**whole, "file": name})
        for variant, changes in variants.items():
            found[f"{name}-{variant}"] = _experiment(f"{name}-{variant}", _varied(whole, changes, name))
    return MappingProxyType(found)


def experiment_named(name: str) -> Experiment:
    """The experiment of that name.

    Raises:
        ExperimentError: there is none.
    """
    known = experiments()
    if name not in known:
        raise ExperimentError(f"there is no experiment {name!r} (`tal-run experiments list` names all): {choices(name, known)}")
    return known[name]


def paper_numbers(head: str, dataset: str, *, frames: bool = False) -> Experiment | None:
    """The experiment whose numbers are the paper's for a head on a data set; None: the paper has none for it, or several."""
    firsts = [found for found in experiments().values() if not found.is_variant and bool(found.frames) == frames]
    mine = [found for found in firsts if (found.head, found.train.dataset) == (head, dataset)]
    return mine[0] if len(mine) == 1 else None


@functools.cache
def _files() -> tuple[str, ...]:
    return tuple(sorted(path.stem for path in FOLDER.glob("*.toml")))


def _varied(whole: Mapping[str, Any], changes: Mapping[str, Any], name: str) -> dict[str, Any]:
    """What a variant is: the first experiment's, but for what it says; numbers of the method are added to the first's."""
    varied = {**whole, "file": name, "notes": [], **changes}
    learns = {"config", "train", "moments", "head", "features", "extra", "seed"} & changes.keys()
    if "checkpoint" not in changes:
        varied["checkpoint"] = "" if learns else whole.get("checkpoint", name)
    for key in ("config", "detection"):
        varied[key] = {**whole.get(key, {}), **changes.get(key, {})}
    return varied


def _experiment(name: str, table: Mapping[str, Any]) -> Experiment:
    published = {key: float(value) for key, value in table["published"].items()}
    return Experiment(
        **{
            **table,
            "name": name,
            "train": _videos(table["train"]),
            "test": _videos(table["test"]),
            "moments": _videos(table["moments"]) if "moments" in table else None,
            "published": MappingProxyType(published),
            "tious": tuple(table.get("tious", [float(key) for key in published if _is_number(key)])),
            "config": {key: _text(value) for key, value in table.get("config", {}).items()},
            "detection": {key: _text(value) for key, value in table.get("detection", {}).items()},
            "notes": tuple(table.get("notes", ())),
            "prepare": tuple(table.get("prepare", ())),
        }
    )


def _videos(table: Mapping[str, Any]) -> Videos:
    return Videos(**{**table, "exclude": tuple(table.get("exclude", ()))})


def _text(value: Any) -> str:
    """A value as `--config` takes it."""
    if isinstance(value, list):
        return ",".join(map(_text, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def _is_number(text: str) -> bool:
    return text.replace(".", "", 1).isdigit()


# ---- commands ----


def commands(experiment: Experiment) -> list[str]:
    """What to type, in a folder that holds each data set in a folder of its name: features, training, detection, numbers."""
    return [*feature_commands(experiment), *training_commands(experiment), *result_commands(experiment)]


def feature_commands(experiment: Experiment) -> list[str]:
    """Features of all the videos, learnt from or not; where they are there already, nothing is done again."""
    from tal_run.eval.datasets import DATASETS

    if experiment.frames:
        return list(experiment.prepare)
    options = {key: value for key, value in experiment.features.items() if key != "name"}
    parts = [part for part in (experiment.train, experiment.moments, experiment.test) if part]
    folders = {part.watched: feature_folder(experiment, part) for part in parts}
    return [
        _line("features", name, **({"dataset": name} if name in DATASETS else {}), o=folder, **options)
        for name, folder in folders.items()
    ]


def training_commands(experiment: Experiment) -> list[str]:
    """The training of the head that it takes, which may be another experiment's."""
    if experiment.checkpoint != experiment.name:
        return training_commands(experiment_named(experiment.checkpoint))
    options = {"experiment": experiment.name}
    if experiment.frames:
        options["videos"] = experiment.frames
    else:
        options["features"] = feature_folder(experiment, experiment.train)
    if experiment.moments:
        options["moments"] = ground_truth(experiment.moments)
        options["moment_features"] = feature_folder(experiment, experiment.moments)
    return [_line("train", **options, **experiment.extra, o=_head_file(experiment))]


def result_commands(experiment: Experiment) -> list[str]:
    """Detection and evaluation."""
    lines = []
    for tiou in experiment.tious if experiment.by_tiou else (None,):
        found = f"{experiment.name}.json" if tiou is None else f"{experiment.name}-{tiou:g}.json"
        sought = {} if tiou is None else {str(experiment.by_tiou): f"{tiou:g}"}
        lines.append(_detect_command(experiment, sought, found))
        judged = {"ground_truth": ground_truth(experiment.test), "detections": found}
        if experiment.test.subset:
            judged["subset"] = experiment.test.subset
        left_out = {"exclude": list(experiment.test.exclude)}
        tious = experiment.tious if tiou is None else (tiou,)
        lines.append(_line("eval", **judged, protocol=experiment.protocol, tiou=",".join(f"{t:g}" for t in tious), **left_out))
        if AUC in experiment.published:
            lines.append(_line("eval", **judged, proposals=True, **left_out))
    return lines


def _detect_command(experiment: Experiment, sought: Mapping[str, str], found: str) -> str:
    if not experiment.frames:
        folder = feature_folder(experiment, experiment.test)
        options = {"experiment": experiment.name, "checkpoint": _head_file(experiment), "features": folder}
        return _line("detect", **options, config=[f"{name}={text}" for name, text in sought.items()], o=found)
    from tal_run.eval.datasets import DATASETS

    folder = DATASETS[experiment.test.watched].videos[experiment.test.subset or ""][0]
    settings = [f"{name}={text}" for name, text in {**experiment.detection, **sought}.items()]
    rest = _line("detect", checkpoint=_head_file(experiment), config=settings, o=found).removeprefix("tal-run detect ")
    return f"tal-run detect {experiment.test.watched}/{folder}/*.mp4 {rest}"  # the pattern is the shell's


def feature_folder(experiment: Experiment, videos: Videos) -> str:
    """Where the commands keep the features of a data set's videos."""
    return f"features/{videos.watched}-{experiment.features['name']}"


def _head_file(experiment: Experiment) -> str:
    return f"{experiment.checkpoint}.safetensors"


def ground_truth(videos: Videos) -> str:
    """Where the commands take annotations from."""
    from tal_run.eval.datasets import DATASETS

    if videos.ground_truth:
        return videos.ground_truth
    dataset = DATASETS[videos.dataset]
    return videos.dataset if dataset.clips else f"{videos.dataset}/{dataset.annotations[0]}"


def _line(command: str, *arguments: str, **options: Any) -> str:
    """A command with its options, in the order given; a list repeats one, True is one without a value."""
    words = ["tal-run", command, *arguments]
    for name, value in options.items():
        option = f"-{name}" if len(name) == 1 else f"--{name.replace('_', '-')}"
        for one in value if isinstance(value, list) else [value]:
            words += [option] if one is True else [option, str(one)]
    return shlex.join(words)
