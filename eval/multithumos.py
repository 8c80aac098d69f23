"""MultiTHUMOS's ground truth as one JSON file, the form in which most work on it passes it on.

Yeung, Russakovsky, Jin, Andriluka, Mori & Fei-Fei, "Every Moment Counts: Dense Detailed Labeling of Actions in Complex
Videos", IJCV 2018::

    {video_id: {"subset": "training" | "testing", "duration": seconds, "actions": [[class, start, end], ...]}}

- *Classes* are numbers from 1. The first 20 are THUMOS'14's, in the order of its list (the intervals are the same). The rest
  is named where a list lies beside the file: ``class_list.txt`` (the authors' own, lines ``21 Walk``) or
  ``class_ids_inferred.json`` (``{"21": "Walk"}``). A class without a name goes by its number: ``22``.
- *Durations* are not to be relied on: 65 instances end after the one that is noted, one of them by 45 minutes. No protocol
  looks at it, so a video is taken to last until its last instance ends.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tal_run.eval.annotations import AnnotationError, GroundTruth, Instance, VideoTruth

THUMOS_CLASSES = (
    "BaseballPitch",
    "BasketballDunk",
    "Billiards",
    "CleanAndJerk",
    "CliffDiving",
    "CricketBowling",
    "CricketShot",
    "Diving",
    "FrisbeeCatch",
    "GolfSwing",
    "HammerThrow",
    "HighJump",
    "JavelinThrow",
    "LongJump",
    "PoleVault",
    "Shotput",
    "SoccerPenalty",
    "TennisSwing",
    "ThrowDiscus",
    "VolleyballSpiking",
)
CLASS_LISTS = ("class_list.txt", "class_ids_inferred.json")
FORM = "it needs subset, duration and actions [[class, start, end]], classes as numbers from 1"
PEEKED = 1 << 14  # characters in which the word "actions" is looked for


def read_multithumos(path: str | os.PathLike[str]) -> tuple[GroundTruth, dict[str, str]] | None:
    """Its ground truth, and the names of the classes by number; None: the file is something else.

    Raises:
        AnnotationError: an entry, or the list of classes beside the file, cannot be true; the message says which.
    """
    path = Path(path)
    if not path.is_file():  # of a pipe, what is read is gone
        return None
    try:
        with path.open(encoding="utf-8-sig") as file:
            if '"actions"' not in file.read(PEEKED):
                return None
        document = json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=_without_twins)
    except (OSError, ValueError, RecursionError):
        return None  # annotations.read will say what is wrong
    except AnnotationError as error:
        raise AnnotationError(f"{path}: {error}") from None
    if not isinstance(document, dict) or not all(isinstance(e, dict) and "actions" in e for e in document.values()):
        return None
    names = class_names(path.parent)
    return GroundTruth(videos=tuple(_video(path, video_id, entry, names) for video_id, entry in document.items())), names


def class_names(folder: Path) -> dict[str, str]:
    """The classes by number ("1"), as far as they are known.

    Raises:
        AnnotationError: a list of classes in the folder cannot be read, or gives two numbers one name.
    """
    names = {str(number): name for number, name in enumerate(THUMOS_CLASSES, 1)}
    for path in (folder / name for name in CLASS_LISTS):
        if not path.is_file():
            continue
        try:
            text = path.read_text(encoding="utf-8-sig")
            pairs = json.loads(text).items() if path.suffix == ".json" else (line.split() for line in text.splitlines() if line)
            names |= {str(int(number)): str(name) for number, name in pairs if number.isdigit()}
        except (OSError, ValueError, AttributeError, RecursionError) as error:
            raise AnnotationError(f"cannot read the list of classes {path} ({error}): mend it, or take it out") from None
    if twins := [name for name in names.values() if list(names.values()).count(name) > 1]:
        raise AnnotationError(f"the list of classes in {folder} gives two numbers the name {twins[0]!r}: keep one")
    return names


def _video(path: Path, video_id: str, entry: Mapping[str, Any], names: Mapping[str, str]) -> VideoTruth:
    try:
        instances = []
        for label, start, end in entry["actions"]:
            if not isinstance(label, int) or isinstance(label, bool) or label < 1:
                raise ValueError(f"{label!r} is no class")
            instances.append(Instance(float(start), float(end), video_id, names.get(str(label), str(label))))
        return VideoTruth(
            video_id=video_id,
            subset=entry.get("subset"),
            duration_s=max([float(entry["duration"]), *(instance.end_s for instance in instances)]),
            instances=tuple(instances),
        )
    except AnnotationError as error:
        raise AnnotationError(f"{path}: {video_id}: {error}") from None
    except KeyError as error:
        raise AnnotationError(f"{path}: {video_id} has no {error}: {FORM}") from None
    except (TypeError, ValueError, OverflowError) as error:
        raise AnnotationError(f"{path}: {video_id} cannot be read ({error}): {FORM}") from None


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; of a key that is there twice the first one's actions would be lost."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twin = next(name for name in names if names.count(name) > 1)
        raise AnnotationError(f"{twin!r} is listed twice: put what belongs together under one entry")
    return found
