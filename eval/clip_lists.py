"""Which clips a data set of trimmed clips consists of, from the lists that it is published with.

Kinetics   ``label,youtube_id,time_start,time_end,split``          clips are called YOUTUBE_000012_000022
UCF101     ``trainlist01.txt``: ``Archery/v_Archery_g08_c01.avi 1``  clips are called v_Archery_g08_c01
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from tal_run.eval.annotations import AnnotationError

KINETICS_COLUMNS = frozenset({"youtube_id", "time_start", "time_end"})


def kinetics_clips(folder: Path) -> list[str]:
    """Names of the clips that Kinetics' CSV files in a folder, or in ``annotations`` in it, list; sorted, none twice.

    Raises:
        AnnotationError: a row of such a file is none.
    """
    return sorted({name for path in _files(folder, "*.csv") for name in _listed_by(path)})


def ucf101_clips(folder: Path) -> list[str]:
    """Names of the clips that UCF101's train and test lists in a folder, or in ``ucfTrainTestlist`` in it, name; sorted."""
    lists = [*_files(folder, "trainlist*.txt"), *_files(folder, "testlist*.txt")]
    lines = (line.split() for path in lists for line in path.read_text(encoding="utf-8", errors="replace").splitlines())
    return sorted({PurePosixPath(words[0]).stem for words in lines if words})


def _files(folder: Path, pattern: str) -> list[Path]:
    return [path for place in (".", "annotations", "ucfTrainTestlist") for path in sorted((folder / place).glob(pattern))]


def _listed_by(path: Path) -> Iterator[str]:
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        rows = csv.DictReader(file)
        if not set(rows.fieldnames or ()) >= KINETICS_COLUMNS:
            return  # another list
        try:
            for row in rows:
                yield f"{row['youtube_id']}_{int(float(row['time_start'])):06d}_{int(float(row['time_end'])):06d}"
        except (TypeError, ValueError, OverflowError, csv.Error) as error:
            raise AnnotationError(f"{path}, line {rows.line_num}: no clip's times ({error}): correct or remove it") from error
