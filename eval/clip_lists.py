"""Which clips a data set of trimmed clips consists of, from the lists that it is published with.

Kinetics   ``label,youtube_id,time_start,time_end,split``          clips are called YOUTUBE_000012_000022
UCF101     ``trainlist01.txt``: ``Archery/v_Archery_g08_c01.avi 1``  clips are called v_Archery_g08_c01
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from tal_run.eval.annotations import AnnotationError, GroundTruth, Instance, VideoTruth

KINETICS_COLUMNS = frozenset({"youtube_id", "time_start", "time_end"})
KINETICS_SPLITS = {"train": "training", "val": "validation", "validate": "validation", "test": "testing"}


def kinetics_clips(folder: Path) -> list[str]:
    """Names of the clips that Kinetics' CSV files in a folder, or in ``annotations`` in it, list; sorted, none twice.

    Raises:
        AnnotationError: a row of such a file is none.
    """
    return sorted({name for path in _files(folder, "*.csv") for name in _listed_by(path)})


def kinetics_truth(folder: Path) -> GroundTruth:
    """The same clips with their labels, each one action from end to end; those that have none are left out.

    Raises:
        AnnotationError: a row of such a file is none.
    """
    videos: dict[str, VideoTruth] = {}
    for path in _files(folder, "*.csv"):
        for row, (name, length_s) in _rows(path):
            if label := row.get("label"):
                whole = Instance(0.0, length_s, name, label)
                subset = KINETICS_SPLITS.get(row.get("split") or "")
                videos[name] = VideoTruth(video_id=name, subset=subset, instances=(whole,))
    return GroundTruth(videos=tuple(videos.values()))


def ucf101_clips(folder: Path) -> list[str]:
    """Names of the clips that UCF101's train and test lists in a folder, or in ``ucfTrainTestlist`` in it, name; sorted."""
    lists = [*_files(folder, "trainlist*.txt"), *_files(folder, "testlist*.txt")]
    lines = (line.split() for path in lists for line in path.read_text(encoding="utf-8", errors="replace").splitlines())
    return sorted({PurePosixPath(words[0]).stem for words in lines if words})


def _files(folder: Path, pattern: str) -> list[Path]:
    return [path for place in (".", "annotations", "ucfTrainTestlist") for path in sorted((folder / place).glob(pattern))]


def _listed_by(path: Path) -> Iterator[str]:
    return (name for _, (name, _) in _rows(path))


def _rows(path: Path) -> Iterator[tuple[dict[str, str], tuple[str, float]]]:
    """Rows of Kinetics' list, each with its clip's name and length in seconds; of another list, none."""
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        rows = csv.DictReader(file)
        if not set(rows.fieldnames or ()) >= KINETICS_COLUMNS:
            return  # another list
        try:
            for row in rows:
                start_s, end_s = float(row["time_start"]), float(row["time_end"])
                yield row, (f"{row['youtube_id']}_{int(start_s):06d}_{int(end_s):06d}", end_s - start_s)
        except (TypeError, ValueError, OverflowError, csv.Error) as error:
            raise AnnotationError(f"{path}, line {rows.line_num}: no clip's times ({error}): correct or remove it") from error
