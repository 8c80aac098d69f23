"""What made a video's features, kept as a JSON file beside them: enough to know whether they are still the right ones."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from tal_run.extractors.array_files import opened
from tal_run.extractors.errors import TalRunError
from tal_run.extractors.timegrid import Sampling
from tal_run.extractors.wire import printable

# the number rises when the same recipe gives other features than before
FORMAT = "tal-run features 1"
ENDING = ".json"
MAX_BYTES = 1 << 20
MAX_NAME_BYTES = 255
MIN_STEP_S, MAX_SECONDS = 1e-6, 1e9  # of a video, beyond which times are damage: 30 years
# how all begin, of whatever version, damaged further on or not
BEGINNING = re.compile(rb'\{\s*"format": "tal-run features ')

Value = TypeVar("Value")


class RecordError(TalRunError):
    """A record that cannot be read. The message completes "its record …"."""


@dataclass(frozen=True, kw_only=True)
class FlowRecipe:
    """How optical flow was computed: by what, and with what parameters."""

    backend: str
    parameters: Mapping[str, float | int | str | bool]


@dataclass(frozen=True, kw_only=True)
class FeatureRecipe:
    """All that decides which features come out: the same recipe, the same features.

    Attributes:
        video_sha256: of the file's bytes.
        backbone: name of the network.
        weights: names and sha256 of the network's files.
        sampling: how the video was cut into windows.
        decoder: the decoder that was asked for: ``auto``, ``decord`` or ``pyav``.
        settings: what else was not left to the backbone: crop, precision, what becomes of the last frames.
        flow: how optical flow was computed; None: there is none.
    """

    video_sha256: str
    backbone: str
    weights: Mapping[str, str]
    sampling: Sampling
    decoder: str = "auto"
    settings: Mapping[str, str] = field(default_factory=dict)
    flow: FlowRecipe | None = None


@dataclass(frozen=True, kw_only=True)
class FeatureRecord:
    """One video's features: their recipe, and what came of it.

    Attributes:
        recipe: what they were made of.
        video_file: the video's file name.
        duration_s: the video's length in seconds.
        decoder: the decoder that gave the frames, ``decord`` or ``pyav``.
        layout: the form of the files (``LAYOUTS``).
        streams: names and widths of the feature vector's parts, in order.
        count: number of snippets.
        files: names and sha256 of the files beside the record; none: they are being written.
        tal_run: the version that made them.
        notes: sentences about damage to the video and about padding.
    """

    recipe: FeatureRecipe
    video_file: str
    duration_s: float
    decoder: str
    layout: str
    streams: tuple[tuple[str, int], ...]
    count: int
    files: Mapping[str, str]
    tal_run: str
    notes: tuple[str, ...] = ()

    def difference(self, wanted: FeatureRecipe) -> str | None:
        """Why these are not the features of another recipe, completing "it …"; None: they are."""
        made = self.recipe
        if made.video_sha256 != wanted.video_sha256:
            return f"is of another video, or the video has changed: it was made of {printable(self.video_file)}"
        if made.backbone != wanted.backbone:
            return f"is of the backbone {printable(made.backbone)}, not {wanted.backbone}"
        if made.weights != wanted.weights:
            return "was made with other weights"
        if made.sampling != wanted.sampling:
            return f"has {made.sampling}, not {wanted.sampling}"
        if wanted.decoder not in ("auto", made.decoder, self.decoder):
            return f"was decoded with {printable(self.decoder)}, not {wanted.decoder}"
        if made.settings != wanted.settings:
            return f"was made with {_listed(made.settings)}, not {_listed(wanted.settings)}"
        if made.flow != wanted.flow:
            return "was made with other optical flow"
        return None


def to_json(record: FeatureRecord) -> str:
    """The record as text, for people and for ``from_json``."""
    recipe = record.recipe
    document = {
        "format": FORMAT,
        "tal_run": record.tal_run,
        "video": {"file": record.video_file, "sha256": recipe.video_sha256, "duration_s": record.duration_s},
        "backbone": recipe.backbone,
        "weights": dict(recipe.weights),
        "fps": recipe.sampling.fps,
        "stride_frames": recipe.sampling.stride_frames,
        "window_frames": recipe.sampling.window_frames,
        "offset_frames": recipe.sampling.middle_frames,
        "decoder": {"asked_for": recipe.decoder, "used": record.decoder},
        "settings": dict(recipe.settings),
        "flow": None if recipe.flow is None else asdict(recipe.flow),
        "layout": record.layout,
        "streams": dict(record.streams),
        "count": record.count,
        "files": dict(record.files),
        "notes": list(record.notes),
    }
    return json.dumps(document, indent=1) + "\n"  # in ASCII: file names may hold what is no text


def from_json(text: str) -> FeatureRecord:
    """The record in a text of ``to_json``.

    Raises:
        RecordError: it is damaged, or of another version of tal-run.
    """
    try:
        document = json.loads(text)
        if document["format"] != FORMAT:
            raise RecordError("is in the form of another version of tal-run")
        flow, video, decoder = document["flow"], document["video"], document["decoder"]
        sampling = Sampling(
            fps=_number(document["fps"]),
            stride_frames=_number(document["stride_frames"]),
            window_frames=_number(document["window_frames"]),
            offset_frames=_number(document["offset_frames"]),
        )
        recipe = FeatureRecipe(
            video_sha256=_as(str, video["sha256"]),
            backbone=_as(str, document["backbone"]),
            weights=_names(document["weights"], str),
            sampling=sampling,
            decoder=_as(str, decoder["asked_for"]),
            settings=_names(document.get("settings", {}), str),  # which the first records did not have
            flow=None
            if flow is None
            else FlowRecipe(backend=_as(str, flow["backend"]), parameters=_as(dict, flow["parameters"])),
        )
        record = FeatureRecord(
            recipe=recipe,
            video_file=_as(str, video["file"]),
            duration_s=_number(video["duration_s"]),
            decoder=_as(str, decoder["used"]),
            layout=_as(str, document["layout"]),
            streams=tuple(_names(document["streams"], int).items()),
            count=_as(int, document["count"]),
            files=_names(document["files"], str),
            tal_run=_as(str, document["tal_run"]),
            notes=tuple(str(note) for note in _as(list, document["notes"])),
        )
        _check(record)
        return record
    except (ValueError, TypeError, LookupError, OverflowError, RecursionError) as error:
        raise RecordError("is damaged") from error


def read_record(path: Path) -> FeatureRecord | None:
    """The record in a file; None: there is no such file.

    Raises:
        RecordError: it cannot be read, is damaged, or is none of tal-run's.
    """
    try:
        with opened(path) as file:
            content = file.read(MAX_BYTES + 1)
        text = content.decode()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise RecordError("cannot be read") from error
    if len(content) > MAX_BYTES:
        raise RecordError("is damaged")
    return from_json(text)


def is_record(path: Path) -> bool:
    """Whether a file is a record of tal-run's, of whatever version, whole or damaged."""
    try:
        with opened(path) as file:
            return BEGINNING.match(file.read(1 << 10)) is not None
    except OSError:
        return False


def _check(record: FeatureRecord) -> None:
    """Refuse what is of the right kind and cannot be. Raises ValueError."""
    if not 0 < record.duration_s < MAX_SECONDS:
        raise ValueError(f"a video of {record.duration_s} s")
    grid = record.recipe.sampling.grid(record.count, duration_s=record.duration_s)
    end_s = grid.start_s + grid.step_s * grid.count + grid.window_s
    if not (grid.step_s >= MIN_STEP_S and grid.start_s > -MAX_SECONDS and 0 < end_s < MAX_SECONDS):
        raise ValueError("snippets at no time")
    if not record.streams or min(width for _, width in record.streams) < 1:
        raise ValueError("streams of no features")
    for name in record.files:
        if name in ("", ".", "..") or "/" in name or "\0" in name or len(os.fsencode(name)) > MAX_NAME_BYTES:
            raise ValueError("a file name that is none")


def _listed(settings: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in sorted(settings.items())) or "the default settings"


def _as(kind: type[Value], value: Any) -> Value:
    if not isinstance(value, kind) or isinstance(value, bool):
        raise TypeError(f"{value!r} is no {kind.__name__}")
    return value


def _number(value: Any) -> float:
    return float(value if isinstance(value, int) else _as(float, value))


def _names(mapping: Any, kind: type[Value]) -> dict[str, Value]:
    return {name: _as(kind, value) for name, value in _as(dict, mapping).items()}
