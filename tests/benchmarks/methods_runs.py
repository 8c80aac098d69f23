"""One training and what is found with it, for ``methods.py``: run once, kept as JSON, never run again while nothing changed.

A ``Training`` has a head, a configuration and data to learn from, and ``rows``: ways to find actions with what was learnt,
which share it. A result's file is named by all that decides it: method, row, configurations, seed, data (their sha256) and the
sources of the method, without their comments and docstrings.
"""

from __future__ import annotations

import ast
import fcntl
import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from methods_data import Data, Split

from tal_run.eval import evaluate
from tal_run.eval.annotations import GroundTruth
from tal_run.eval.protocols import PROTOCOLS, TENTHS
from tal_run.extractors.features import Features
from tal_run.extractors.files import written_whole
from tal_run.models import Detection
from tal_run.models.head import Found, TrainedHead, head_named
from tal_run.pipeline.ahernet_stages import train_ahernet
from tal_run.pipeline.training import TrainOptions, train
from tal_run.pipeline.training_data import TrainingSet

MODELS = Path(__file__).parents[2] / "models"
# what all heads rest on; a method's own files begin with its name
SHARED = ("postprocess.py", "thresholds.py")
# of head.py, what decides what is learnt
OF_HEAD = ("found", "labelled_videos", "make_batch", "update")
ALSO = {"wsad": ("wtalc.py",), "autoloc": ("wtalc.py",), "actionbytes": ("wtalc.py",)}
CLASSES_BY = "activitynet"  # the protocol by which classes are told apart
NAMED = [name for name, protocol in PROTOCOLS.items() if protocol.labels is None]  # mexaction2 knows two classes of its own

Outputs = dict[str, Any]  # a network's, by video
Localize = Callable[[TrainedHead, Features], list[Detection]]


@dataclass(frozen=True, kw_only=True)
class Row:
    """A way to find actions with what was learnt.

    Attributes:
        changes: of the configuration with which the head was trained.
        localize: what finds; None: ``TrainedHead.localize``.
        how: what ``localize`` does, for its result's name.
        method: in the table, where it is not the training's.
        each_overlap: ``evaluation_tiou`` is the overlap that is judged by, so there are detections for each (S-CNN, 3.3).
    """

    changes: Mapping[str, Any] = field(default_factory=dict)
    localize: Localize | None = None
    how: str = ""
    method: str | None = None
    each_overlap: bool = False


@dataclass(frozen=True, kw_only=True)
class Training:
    """A head, what it learns from, and what is asked of it afterwards.

    Attributes:
        method: as the table has it.
        head: its name in ``HEADS``.
        config: of the head.
        learn: what it learns from, as ``Data`` calls it.
        rows: by their names in the table.
        test: what it is tested on; ``{}`` stands for test or validation.
        fit: completes the configuration by what is known of the training videos' times.
        late: it is run when all the others are done.
    """

    method: str
    head: str
    config: Any
    learn: str
    rows: Mapping[str, Row]
    test: str = "{}"
    fit: Callable[[Any, TrainingSet], Any] | None = None
    late: bool = False

    def fitted(self, data: Data) -> Training:
        """The same with a complete configuration."""
        return self if self.fit is None else replace(self, config=self.fit(self.config, data.learn("times")), fit=None)


def sources(head: str) -> str:
    """A digest of the method's code."""
    names = [*SHARED, *ALSO.get(head, ()), *sorted(path.name for path in MODELS.glob(f"{head}*.py"))]
    code = [code_of(MODELS / "head.py", only=OF_HEAD), *(code_of(MODELS / name) for name in names)]
    return hashlib.sha256("".join(code).encode()).hexdigest()[:16]


def code_of(path: Path, *, only: Sequence[str] = ()) -> str:
    """What a module does, or some of its functions, without what it says about it."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    if only:
        tree.body = [node for node in tree.body if getattr(node, "name", None) in only]
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        first = body[0] if body and isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) else None
        if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
            first.value = ast.Constant("")
    return ast.dump(tree)


def name_of(training: Training, seed: int, data: Data) -> str:
    """The name of what is learnt."""
    card = [training.head, asdict(training.config), seed, data.learn(training.learn).sha256, sources(training.head)]
    return f"{training.head}_{digest_of(card)}"


def result_file(folder: Path, training: Training, row: Row, seed: int, data: Data, *, on: str) -> Path:
    """Where a result is kept."""
    card = [name_of(training, seed, data), dict(row.changes), row.how, row.each_overlap]
    card.append(data.split(training.test.format(on)).sha256)
    return folder / "runs" / f"{training.head}_{digest_of(card)}.json"


def digest_of(card: Sequence[Any]) -> str:
    return hashlib.sha256(json.dumps(card, sort_keys=True, default=str).encode()).hexdigest()[:20]


def run(folder: Path, training: Training, seed: int, data: Data, *, on: str) -> list[Path]:
    """Train, unless it is done, and test every row; the results' files."""
    training = training.fitted(data)
    files = {name: result_file(folder, training, row, seed, data, on=on) for name, row in training.rows.items()}
    if all(file.is_file() for file in files.values()):
        return list(files.values())
    torch.set_num_threads(1)
    trained, test = learnt(folder, training, seed, data), data.split(training.test.format(on))
    outputs: Outputs = {}
    for name, file in files.items():
        if file.is_file():
            continue
        row = training.rows[name]
        began_s = time.process_time()
        card = {
            "method": row.method or training.method,
            "row": name,
            "seed": seed,
            "config": asdict(training.config),
            "changes": dict(row.changes),
            "learnt_from": training.learn,
            "scores": judged(trained, row, test, outputs),
            "test_s": round(time.process_time() - began_s, 1),
        }
        write_card(file, card)
    return list(files.values())


def write_card(file: Path, card: Mapping[str, Any]) -> None:
    """Keep a result, whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(file) as part:
        part.write_text(json.dumps(card, indent=1, default=str) + "\n", encoding="utf-8")


@contextmanager
def one_at_a_time(file: Path) -> Iterator[None]:
    """While it lasts, other processes wait: two runs may need the same first model at the same time."""
    with file.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


def learnt(folder: Path, training: Training, seed: int, data: Data) -> TrainedHead:
    """The trained head; what was begun goes on."""
    target = folder / "heads" / f"{name_of(training, seed, data)}.safetensors"
    target.parent.mkdir(parents=True, exist_ok=True)
    head, options = head_named(training.head), TrainOptions(seed=seed)
    videos, config = data.learn(training.learn), training.config
    if training.head != "ahernet":
        return train(target, head, videos, config=config, options=options)
    start = None
    if config.starts:  # line 1 of Algorithm 1: one model for all runs that start from it
        first = replace(training, config=replace(config, variant="star"), learn="times of the rest")
        with one_at_a_time(folder / "heads" / f"{name_of(first, seed, data)}.waiting"):
            start = learnt(folder, first, seed, data)
    if all(config.learns_from):
        config = replace(config, moment_classes=videos.moment_classes)
    return train_ahernet(target, videos, config=config, options=options, start=start)


def found_in(trained: TrainedHead, row: Row, split: Split, outputs: Outputs) -> dict[str, list[Detection]]:
    """Actions in all videos of a split; only of its classes.

    Args:
        trained: the head.
        row: how to find them.
        split: the videos.
        outputs: of the network, by video; filled where it is empty.
    """
    changed, found = replace(trained, config=replace(trained.config, **row.changes)), {}
    for video in split.videos:
        name, features = video.truth.video_id, video.features
        if row.localize is not None:
            several = row.localize(changed, features)
        else:
            if name not in outputs:
                outputs[name] = changed.outputs(features)
            several = detections_of(changed, features, changed.head.decode(outputs[name], changed.config))
        found[name] = [each for each in several if each.label in split.labels]
    return found


def detections_of(trained: TrainedHead, features: Features, found: Found) -> list[Detection]:
    """What was found, in seconds."""
    seconds = features.grid.borders_to_seconds(found.segments)
    return [
        Detection(float(start), float(end), trained.labels[index], float(score))
        for (start, end), score, index in zip(seconds, found.scores, found.classes, strict=True)
        if end > start
    ]


def judged(trained: TrainedHead, row: Row, split: Split, outputs: Outputs) -> dict[str, Any]:
    """mAP at tIoU 0.1 to 0.7 under every protocol that takes any classes, over frames, and each class's AP at 0.5."""
    tious: Sequence[tuple[float, ...]] = [(tiou,) for tiou in TENTHS] if row.each_overlap else [TENTHS]
    scores: dict[str, Any] = {}
    for several in tious:
        chosen = replace(row, changes={**row.changes, "evaluation_tiou": several[0]}) if row.each_overlap else row
        add_scores(scores, found_in(trained, chosen, split, outputs), split.truth, several)
    return scores


def add_scores(
    scores: dict[str, Any], found: Mapping[str, list[Detection]], truth: GroundTruth, tious: tuple[float, ...] = TENTHS
) -> None:
    """What detections are worth at these overlaps, put behind what is there already."""
    for name in NAMED:
        result = evaluate(truth, found, protocol=name, tiou_thresholds=tious, subset="testing")
        scores.setdefault(name, []).extend(round(result.map[tiou], 5) for tiou in tious)
        if result.frame_map is not None and 0.5 in tious:
            scores["frames"] = round(result.frame_map, 5)
        if name == CLASSES_BY and 0.5 in tious:
            scores["classes"] = {label: round(of_class[0.5], 5) for label, of_class in result.per_class.items()}
