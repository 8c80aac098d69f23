"""W-TALC's one file of all features, and what keeps it from giving one video another's.

::

    JOINTFeatures.npy    object array of N times [T, D]
    videoname.npy        the N names, in the same order
    JOINTFeatures.json   the first one's sha256; names and sha256 of the files that were put into it, in order

The record is written last, so after a kill between the files it does not fit them, and they are refused. One that describes
nothing is there before the first file: what has no record was not written here, and is not overwritten. Published files have
none, and are read as they are.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from tal_run.extractors.array_files import Array, ArrayFileError, opened, shown
from tal_run.extractors.feature_layouts import PACKED_NAMES
from tal_run.extractors.features import FeatureError
from tal_run.extractors.files import written_whole
from tal_run.extractors.object_arrays import read_object_array, write_object_array
from tal_run.extractors.weights import sha256_of

FORMAT = "tal-run pack 1"
BEGINNING = re.compile(rb'\{\s*"format": "tal-run pack ')
MAX_BYTES = 64 << 20  # of the record


class Pack:
    """The features of many videos in one file.

    Args:
        file: that file; names and record lie beside it.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self._names_file = file.with_name(PACKED_NAMES)
        self._record_file = file.with_suffix(".json")

    def files(self) -> list[Path]:
        """All files that ``write`` writes."""
        return [self.file, self._names_file, self._record_file]

    def foreign(self) -> Path | None:
        """A file that ``write`` would replace and that was not written here; None: there is none such."""
        if self._begins_as_record():
            return None
        return next((path for path in self.files() if path.exists()), None)

    def write(self, names: Sequence[str], paths: Sequence[Path]) -> None:
        """Put the arrays in .npy files into the one; one is in memory at a time.

        Raises:
            FeatureError: there is none.
            ArrayFileError: one is missing or damaged.
            OSError: the file cannot be written.
        """
        if not names:
            raise FeatureError(f"there are no features to put into {shown(self.file)}: have some made first")
        videos = dict(zip(names, map(_sha256, paths), strict=True))
        if not self._begins_as_record():
            self._write_record(None, {})
        with written_whole(self.file) as part:
            with part.open("wb") as file:
                write_object_array(file, [_mapped(path) for path in paths])
            digest = sha256_of(part)
        with written_whole(self._names_file) as part, part.open("wb") as file:
            np.save(file, np.array([os.fsencode(name) for name in names], np.bytes_), allow_pickle=False)
        self._write_record(digest, videos)

    def _write_record(self, digest: str | None, videos: Mapping[str, str]) -> None:
        document = {"format": FORMAT, "sha256": digest, "videos": dict(videos)}
        with written_whole(self._record_file) as part:
            part.write_text(json.dumps(document, indent=1) + "\n", encoding="ascii")

    def _begins_as_record(self) -> bool:
        try:
            with opened(self._record_file) as file:
                return BEGINNING.match(file.read(1 << 10)) is not None
        except OSError:
            return False

    @cached_property
    def digests(self) -> dict[str, str] | None:
        """The sha256 of each video's file as it was packed, in order; None: the pack was not made here.

        Raises:
            FeatureError: the pack is not that of its record.
        """
        if not self._begins_as_record():
            return None
        try:
            with opened(self._record_file) as file:
                document = json.loads(file.read(MAX_BYTES + 1))
            videos, digest = document["videos"], document["sha256"]
            if document["format"] == FORMAT and isinstance(videos, dict) and digest == sha256_of(self.file):
                return {name: str(value) for name, value in videos.items()}
        except (OSError, ValueError, TypeError, LookupError, RecursionError):
            pass
        raise self._not_of_its_record()

    def _not_of_its_record(self) -> FeatureError:
        return FeatureError(
            f"{shown(self.file)} is not what {shown(self._record_file.name)} says of it, perhaps as its making was cut off: "
            "have it made again"
        )

    @cached_property
    def elements(self) -> dict[str, Any]:
        """The elements by video: what is in them is not checked yet."""
        digests = self.digests
        elements = read_object_array(self.file)
        set_name = self.file.stem.partition("-")[0]
        candidates = [self._names_file, self.file.parent / f"{set_name}-Annotations" / PACKED_NAMES]
        file = next((path for path in candidates if path.is_file()), None)
        if file is None:
            raise FeatureError(
                f"which videos the features in {shown(self.file)} are of is said in a file {PACKED_NAMES}: put the one from "
                "the data set's annotations beside it"
            )
        names = [_decoded(name, file) for name in read_object_array(file).reshape(-1)]
        if elements.ndim != 1 or len(set(names)) != len(elements):
            raise FeatureError(
                f"{shown(self.file)} has {len(elements)} elements and {shown(file)} {len(set(names))} names: take the two that "
                "belong together"
            )
        if digests is not None and names != list(digests):
            raise self._not_of_its_record()
        return dict(zip(names, elements, strict=True))


def _sha256(path: Path) -> str:
    try:
        with opened(path):
            return sha256_of(path)
    except OSError as error:
        raise ArrayFileError(f"{shown(path)} cannot be packed ({error.strerror}): have it made again") from error


def _mapped(path: Path) -> Array:
    try:
        return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
    except (OSError, ValueError, EOFError) as error:
        raise ArrayFileError(f"{shown(path)} cannot be packed ({error}): have it made again") from error


def _decoded(name: Any, file: Path) -> str:
    """A name in W-TALC's list, bytes or text."""
    if not isinstance(name, (bytes, str)):
        raise FeatureError(f"{shown(file)} holds {type(name).__name__}, not names: take the one from the annotations")
    return os.fsdecode(name)
