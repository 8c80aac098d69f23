"""One training and what is found with it, for ``methods.py``: run once, kept as JSON, never run again while nothing changed.

A ``Training`` has a head, a configuration and data to learn from, and ``rows``: ways to find actions with what was learnt,
which share it. A result's file is named by all that decides it: method, row, configurations, seed, data (their sha256) and the
sources of the method, without their comments and docstrings.
"""

from __future__ import annotations

import ast
import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from methods_data import Split

from tal_run.eval import evaluate
from tal_run.eval.annotations import GroundTruth
from tal_run.eval.protocols import PROTOCOLS, TENTHS
from tal_run.extractors.features import Features
from tal_run.extractors.files import written_whole
from tal_run.models import Detection
from tal_run.models.head import Found, TrainedHead, head_named
from tal_run.pipeline.training import TrainOptions, train

MODELS = Path(__file__).parents[2] / "models"
# what all heads rest on; a method's own files begin with its name
SHARED = ("head.py", "postprocess.py", "thresholds.py")
ALSO = {"wsad": ("wtalc.py",), "autoloc": ("wtalc.py",), "actionbytes": ("wtalc.py",)}
NAMED = [name for name, protocol in PROTOCOLS.items() if protocol.labels is None]  # mexaction2 knows two classes of its own

Localize = Callable[[TrainedHead, Features], list[Detection]]


@dataclass(frozen=True, kw_only=True)
class Row:
    """A way to find actions with what was learnt.

    Attributes:
        changes: of the configuration with which the head was trained.
        localize: what finds; None: ``TrainedHead.localize``.
        how: what ``localize`` does, for its result's name.
    """

    changes: Mapping[str, Any] = field(default_factory=dict)
    localize: Localize | None = None
    how: str = ""


@dataclass(frozen=True, kw_only=True)
class Training:
    """A head, what it learns from, and what is asked of it afterwards.

    Attributes:
        method: as the table has it.
        head: its name in ``HEADS``.
        config: of the head.
        timed: it learns from times.
        rows: by their names in the table.
        train: ``data`` holds splits by name; None: ``pipeline.training.train`` on ``split``.
        split: the data to learn from, and ...
        test: ... those to be tested on, names that ``data`` knows.
    """

    method: str
    head: str
    config: Any
    timed: bool
    rows: Mapping[str, Row]
    split: str = "training"
    test: str = "test"
    train: Callable[[Training, Callable[[str], Split], int], TrainedHead] | None = None


def sources(head: str) -> str:
    """A digest of the method's code."""
    names = [*SHARED, *ALSO.get(head, ()), *sorted(path.name for path in MODELS.glob(f"{head}*.py"))]
    return hashlib.sha256("".join(code_of(MODELS / name) for name in names).encode()).hexdigest()[:16]


def code_of(path: Path) -> str:
    """What a module does, without what it says about it."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        first = body[0] if body and isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) else None
        if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
            first.value = ast.Constant("")
    return ast.dump(tree)


def names_of(training: Training, seed: int, learnt_from: str) -> str:
    """The name of what was learnt."""
    card = [training.head, asdict(training.config), seed, learnt_from, sources(training.head)]
    return hashlib.sha256(json.dumps(card, sort_keys=True, default=str).encode()).hexdigest()[:20]


def result_file(folder: Path, training: Training, row: str, seed: int, data: Callable[[str], Split]) -> Path:
    """Where a result is kept."""
    name = names_of(training, seed, data(training.split).sha256 + str(training.timed))
    entry = training.rows[row]
    card = [name, dict(entry.changes), entry.how, data(training.test).sha256]
    digest = hashlib.sha256(json.dumps(card, sort_keys=True, default=str).encode()).hexdigest()[:20]
    return folder / "runs" / f"{training.head}_{digest}.json"


def run(folder: Path, training: Training, seed: int, data: Callable[[str], Split]) -> list[Path]:
    """Train, unless it is done, and test every row; the results' files."""
    files = {row: result_file(folder, training, row, seed, data) for row in training.rows}
    if all(file.is_file() for file in files.values()):
        return list(files.values())
    began_s = time.process_time()
    trained = learn(folder, training, seed, data)
    took_s = time.process_time() - began_s
    test = data(training.test)
    for row, file in files.items():
        if file.is_file():
            continue
        found = find(trained, training.rows[row], test)
        card = {
            "method": training.method,
            "row": row,
            "seed": seed,
            "config": asdict(training.config),
            "changes": dict(training.rows[row].changes),
            "cpu_s": round(took_s, 1),
            "scores": judged(test.truth, found),
        }
        file.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(file) as part:
            part.write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")
    return list(files.values())


def learn(folder: Path, training: Training, seed: int, data: Callable[[str], Split]) -> TrainedHead:
    """The trained head; what was begun goes on."""
    torch.set_num_threads(1)
    if training.train is not None:
        return training.train(training, data, seed)
    learnt_from = data(training.split).training_set(timed=training.timed)
    target = folder / "heads" / f"{training.head}_{names_of(training, seed, learnt_from.sha256)}.safetensors"
    target.parent.mkdir(parents=True, exist_ok=True)
    return train(target, head_named(training.head), learnt_from, config=training.config, options=TrainOptions(seed=seed))


def find(trained: TrainedHead, row: Row, split: Split) -> dict[str, list[Detection]]:
    """Actions in all videos of a split."""
    changed = replace(trained, config=replace(trained.config, **row.changes))
    localize = row.localize or TrainedHead.localize
    return {video.truth.video_id: localize(changed, video.features) for video in split.videos}


def detections_of(trained: TrainedHead, features: Features, found: Found) -> list[Detection]:
    """What was found, in seconds."""
    seconds = features.grid.borders_to_seconds(found.segments)
    return [
        Detection(float(start), float(end), trained.labels[index], float(score))
        for (start, end), score, index in zip(seconds, found.scores, found.classes, strict=True)
        if end > start
    ]


def judged(truth: GroundTruth, found: Mapping[str, list[Detection]]) -> dict[str, Any]:
    """mAP at tIoU 0.1 to 0.7 under every protocol that takes any classes, and over frames."""
    scores: dict[str, Any] = {}
    for name in NAMED:
        result = evaluate(truth, found, protocol=name, tiou_thresholds=TENTHS, subset="testing")
        scores[name] = [round(result.map[tiou], 5) for tiou in TENTHS]
        if result.frame_map is not None:
            scores["frames"] = round(result.frame_map, 5)
    return scores
