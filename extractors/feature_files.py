"""A folder of features: written so that a kill at any moment costs one video, verified, read, made here or elsewhere.

Beside each video's files lies a record (``feature_record.py``) of what they were made of, with their sha256. It is written
last, so files without one, or that it does not describe, are made again::

    bout.npz    the arrays, in one of the LAYOUTS
    bout.json   video's sha256, backbone, weights, sampling, decoder, flow; sha256 of bout.npz
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from tal_run.extractors.array_files import Array, ArrayFileError, shown
from tal_run.extractors.feature_layouts import (
    OWN,
    PACKED,
    PACKED_NAMES,
    PER_VIDEO,
    USUAL_DIMS,
    Found,
    i3d_streams,
    recognised,
    require_known,
    vectors,
)
from tal_run.extractors.feature_record import ENDING, MAX_BYTES, FeatureRecord, Recipe, RecordError, from_json, to_json
from tal_run.extractors.features import FeatureError, Features, FeatureSequence
from tal_run.extractors.files import written_whole
from tal_run.extractors.object_arrays import read_object_array, write_object_array
from tal_run.extractors.timegrid import Sampling, TimeGrid
from tal_run.extractors.weights import sha256_of

COUNT_TOLERANCE = 0.1  # of the number of snippets that a video's length makes one expect; 25 for 30 fps is further off
COUNT_SLACK = 3  # snippets: windows that reach past the end, or are left out there


class FeatureFolder:
    """Features of any number of videos in one folder and one layout.

    Args:
        path: the folder; of W-TALC's layout, the file of all features will do.
        layout: one of ``LAYOUTS``; None: the one that is found there.

    Raises:
        FeatureError: there is no such layout, or none can be recognised.
    """

    def __init__(self, path: str | os.PathLike[str], *, layout: str | None = None) -> None:
        path = Path(path)
        self._packed_file = path / PACKED
        if path.is_file():
            self._packed_file, path, layout = path, path.parent, layout or "wtalc"
        self.path = path
        self.layout_name = layout or recognised(path)
        self.layout = require_known(self.layout_name)
        self._files_path = path / PER_VIDEO if self.layout.packs else path

    # --- writing ---------------------------------------------------------------------------------------------------------

    def has(self, video_id: str) -> bool:
        """Whether anything is there of a video's features, right or wrong."""
        return any(self._path(video_id, ending).exists() for ending in (*self.layout.endings, ENDING))

    def other_layout(self) -> str | None:
        """The layout of features that were made here in another one; None: there are none such."""
        for path in sorted(self.path.rglob(f"*{ENDING}")):
            try:
                record = self._record_in(path)
            except RecordError:
                continue  # no record of ours, or a damaged one: made again
            if record and record.layout != self.layout_name:
                return record.layout
        return None

    def sound(self) -> list[str]:
        """The videos whose files are those of their records, sorted."""
        names = [
            path.relative_to(self._files_path).as_posix().removesuffix(ENDING) for path in self._files_path.rglob(f"*{ENDING}")
        ]
        return sorted(name for name in names if self._is_sound(name))

    def _is_sound(self, video_id: str) -> bool:
        try:
            record = self._record(video_id)
        except RecordError:
            return False
        return record is not None and record.layout == self.layout_name and not self._damage(video_id, record)

    def fault(self, video_id: str, recipe: Recipe) -> str | None:
        """Why a video's files are not whole, or not of this recipe, as the end of a sentence; None: verified."""
        try:
            record = self._record(video_id)
        except RecordError as error:
            return f"its record {self._path(video_id, ENDING).name} {error}"
        if record is None:
            return f"it has no record {self._path(video_id, ENDING).name}"
        if record.layout != self.layout_name:
            return f"its record is of the layout {record.layout}"
        difference = record.difference(recipe)
        return f"it {difference}" if difference else self._damage(video_id, record)

    def save(self, video_id: str, features: FeatureSequence, recipe: Recipe) -> None:
        """Write a video's files and then their record, each whole or not at all.

        Raises:
            FeatureError: the name leads out of the folder.
            OSError: they cannot be written.
        """
        written: dict[Path, str] = {}
        for ending, content in self.layout.files(features, recipe.sampling).items():
            target = self._path(video_id, ending)
            target.parent.mkdir(parents=True, exist_ok=True)
            with written_whole(target) as part:
                _write_arrays(part, content)
                written[target] = sha256_of(part)
        record = FeatureRecord(
            recipe=recipe,
            video_file=features.video.path.name,
            duration_s=features.grid.duration_s,
            decoder=features.decoder,
            layout=self.layout_name,
            streams=features.stream_dims or (("features", features.data.shape[1]),),
            count=features.grid.count,
            files={path.name: digest for path, digest in written.items()},
            tal_run=version("tal-run"),
            notes=features.notes,
        )
        with written_whole(self._path(video_id, ENDING)) as part:
            part.write_text(to_json(record), encoding="ascii")

    def pack(self, video_ids: Iterable[str]) -> Path:
        """Put videos' files into W-TALC's one, in this order, and their names beside it; one is in memory at a time.

        Raises:
            FeatureError: one is not there or damaged.
            OSError: it cannot be written.
        """
        names = list(video_ids)
        with written_whole(self._packed_file) as part, part.open("wb") as file:
            write_object_array(file, [self._mapped(name) for name in names])
        with written_whole(self.path / PACKED_NAMES) as part:
            _write_arrays(part, np.array([os.fsencode(name) for name in names], np.bytes_))
        return self._packed_file

    # --- reading ---------------------------------------------------------------------------------------------------------

    @property
    def video_ids(self) -> list[str]:
        """The videos whose features are there, sorted."""
        if self.layout.packs:
            return sorted(self._packed)
        found = {
            path.relative_to(self.path).as_posix().removesuffix(ending)
            for ending in self.layout.endings
            for path in self.path.rglob(f"*{ending}")
            if not path.name.startswith(".")
        }
        return sorted(found)

    def read(self, video_id: str, *, sampling: Sampling | None = None, duration_s: float | None = None) -> Features:
        """One video's features, verified against their record if they have one.

        Args:
            video_id: the video's name.
            sampling: how features made elsewhere lie in time, where neither files nor layout say.
            duration_s: the video's length, where it is known; without it, it is taken to end with the last window.

        Raises:
            FeatureError, ArrayFileError: they are missing, damaged, or not what they are said to be.
        """
        where = f"{shown(video_id)} in {shown(self.path)}"
        if not self.has(video_id) and self.has(f"v_{video_id}"):
            video_id = f"v_{video_id}"  # ActivityNet's files have the prefix, its annotations have not
        try:
            record = self._record(video_id)
        except RecordError as error:
            raise FeatureError(
                f"the features of {where} cannot be trusted: their record {error}; have them made again, or delete the record "
                "and say how they lie in time"
            ) from error
        found = self._found(video_id)
        if record:
            return self._with_record(found, record, video_id, sampling)
        given = sampling or self.layout.sampling
        count, dim = found.data.shape
        if given is None and found.grid is None:
            raise FeatureError(
                f"the features of {where} do not say how they lie in time: give fps, stride and window as they were made with "
                "(ActionFormer's of THUMOS'14: the video's fps, 4 and 16; TSP's of ActivityNet: 15, 16 and 16)"
            )
        if duration_s is None and self.layout_name != OWN and count in USUAL_DIMS and dim not in USUAL_DIMS:
            raise FeatureError(
                f"the features of {where} are {count} x {dim}, which looks turned on its side: save them as [T, D] or, if "
                f"these are {count} snippets indeed, give the video's duration"
            )
        grid = found.grid if given is None else given.grid(count)
        assert grid is not None
        if duration_s is not None:
            _check_length(grid, dim, duration_s, where)
            grid = replace(grid, duration_s=duration_s)
        return Features(
            data=found.data,
            grid=grid,
            stream_dims=found.stream_dims,
            logits=found.logits,
            labels=found.labels,
            multi_label=found.multi_label,
        )

    def _with_record(self, found: Found, record: FeatureRecord, video_id: str, sampling: Sampling | None) -> Features:
        """What is found and what its record says of it, if they agree."""
        where = f"the features of {shown(video_id)} in {shown(self.path)}"
        damage = None if self.layout.packs else self._damage(video_id, record)
        if damage:
            raise FeatureError(f"{where} cannot be trusted: {damage}; have them made again")
        if found.data.shape != (record.count, sum(width for _, width in record.streams)):
            raise FeatureError(f"{where} are not those of their record: have them made again")
        if sampling is not None and replace(sampling, offset_frames=sampling.middle_frames) != record.recipe.sampling:
            raise FeatureError(f"{where} were made with {record.recipe.sampling}, not {sampling}: leave that out")
        return Features(
            data=found.data,
            grid=record.recipe.sampling.grid(record.count, duration_s=record.duration_s),
            stream_dims=record.streams,
            logits=found.logits,
            labels=found.labels,
            multi_label=found.multi_label,
            record=record,
        )

    def _found(self, video_id: str) -> Found:
        if not self.layout.packs:
            self.file(video_id)  # refuses names that lead out of the folder
            return self.layout.read(self.path, video_id)
        if video_id not in self._packed:
            raise FeatureError(f"there are no features of {shown(video_id)} in {shown(self._packed_file)}: check the name")
        data = vectors(self._packed[video_id], f"{shown(self._packed_file)} ({shown(video_id)})")
        return Found(data=data, stream_dims=i3d_streams(data.shape[1]))

    @cached_property
    def _packed(self) -> dict[str, Any]:
        """W-TALC's elements by video: what is in them is not checked yet."""
        elements = read_object_array(self._packed_file)
        set_name = self._packed_file.stem.partition("-")[0]
        candidates = [self.path / PACKED_NAMES, self.path / f"{set_name}-Annotations" / PACKED_NAMES]
        file = next((path for path in candidates if path.is_file()), None)
        if file is None:
            raise FeatureError(
                f"which videos the features in {shown(self._packed_file)} are of is said in a file {PACKED_NAMES}: put the one "
                "from the data set's annotations beside it"
            )
        names = [_decoded(name, file) for name in read_object_array(file).reshape(-1)]
        if elements.ndim != 1 or len(set(names)) != len(elements):
            raise FeatureError(
                f"{shown(self._packed_file)} has {len(elements)} elements and {shown(file)} {len(set(names))} names: take the "
                "two that belong together"
            )
        return dict(zip(names, elements, strict=True))

    def file(self, video_id: str) -> Path:
        """A video's file, the first where there are several."""
        return self._path(video_id, self.layout.endings[0])

    # --- both ------------------------------------------------------------------------------------------------------------

    def _path(self, video_id: str, ending: str) -> Path:
        name = PurePosixPath(video_id)
        if not name.name or name.is_absolute() or ".." in name.parts or "\0" in video_id:
            raise FeatureError(f"{shown(video_id)!r} cannot be the name of a video, as it leads out of the folder: rename it")
        return self._files_path / f"{video_id}{ending}"

    def _record(self, video_id: str) -> FeatureRecord | None:
        """The record; None: there is none. Raises RecordError."""
        return self._record_in(self._path(video_id, ENDING))

    @staticmethod
    def _record_in(path: Path) -> FeatureRecord | None:
        try:
            if path.stat().st_size > MAX_BYTES:
                raise RecordError("is damaged")
            return from_json(path.read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError) as error:
            raise RecordError("cannot be read") from error

    def _damage(self, video_id: str, record: FeatureRecord) -> str | None:
        """What is wrong with the files that a record names, as the end of a sentence."""
        if not record.files:
            return "its record names no file"
        for name, digest in record.files.items():
            path = self._path(video_id, ENDING).parent / PurePosixPath(name).name
            try:
                if sha256_of(path) != digest:
                    return f"{path.name} is damaged or was changed"
            except (FileNotFoundError, NotADirectoryError):
                return f"{path.name} is missing"
            except OSError as error:
                return f"{path.name} cannot be read ({error.strerror})"
        return None

    def _mapped(self, video_id: str) -> Array:
        path = self.file(video_id)
        try:
            return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
        except (OSError, ValueError, EOFError) as error:
            raise ArrayFileError(f"{shown(path)} cannot be packed ({error}): have it made again") from error


def _write_arrays(part: Path, content: Array | Mapping[str, Array]) -> None:
    with part.open("wb") as file:
        if isinstance(content, Mapping):
            np.savez(file, allow_pickle=False, **content)
        else:
            np.save(file, content, allow_pickle=False)


def _check_length(grid: TimeGrid, dim: int, duration_s: float, where: str) -> None:
    """Refuse a number of snippets that a video of this length cannot have."""
    expected = grid.expected_count(duration_s)
    slack = max(COUNT_SLACK, COUNT_TOLERANCE * expected)
    if abs(grid.count - expected) <= slack:
        return
    if abs(dim - expected) <= slack:
        raise FeatureError(f"the features of {where} are {grid.count} x {dim}, turned on their side: save them as [T, D]")
    raise FeatureError(
        f"the features of {where} are {grid.count} snippets {grid.step_s:.4g} s apart, and a video of {duration_s:.1f} s makes "
        f"about {expected}: give the video, and the fps, stride and window, that they were made with"
    )


def _decoded(name: Any, file: Path) -> str:
    """A name in W-TALC's list, bytes or text."""
    if not isinstance(name, (bytes, str)):
        raise FeatureError(f"{shown(file)} holds {type(name).__name__}, not names: take the one from the annotations")
    return os.fsdecode(name)
