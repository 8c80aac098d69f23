"""A folder of features: written so that a kill at any moment costs one video, verified, read, made here or elsewhere.

Beside each video's files lies a record (``feature_record.py``) of what they were made of, with their sha256. It is written
last, so files that it does not describe are made again. One that describes no file yet is there before the first file: files
without a record are not tal-run's, and not for it to overwrite::

    bout.npz    the arrays, in one of the LAYOUTS
    bout.json   video's sha256, backbone, weights, sampling, decoder, flow; sha256 of bout.npz
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path, PurePosixPath

import numpy as np

from tal_run.extractors.array_files import Array, shown
from tal_run.extractors.feature_layouts import (
    OWN,
    PACKED,
    PER_VIDEO,
    STREAM_FILES,
    USUAL_DIMS,
    Found,
    i3d_streams,
    recognised,
    require_known,
    vectors,
)
from tal_run.extractors.feature_pack import Pack
from tal_run.extractors.feature_record import ENDING, FeatureRecipe, FeatureRecord, RecordError, is_record, read_record, to_json
from tal_run.extractors.features import FeatureError, Features, FeatureSequence
from tal_run.extractors.files import PART, written_whole
from tal_run.extractors.timegrid import Sampling, TimeGrid
from tal_run.extractors.weights import sha256_of
from tal_run.extractors.wire import printable

COUNT_TOLERANCE = 0.1  # of the number of snippets that a video's length makes one expect; 25 for 30 fps is further off
COUNT_SLACK = 3  # snippets: windows that reach past the end, or are left out there


@dataclass(frozen=True)
class Finished:
    """A record that was written behind its files, and when, by the file system's clock."""

    record: FeatureRecord
    written_ns: int


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
        self.packed = Pack(_pack_in(path))
        if path.is_file():
            self.packed, path, layout = Pack(path), path.parent, layout or "wtalc"
        self.path = path
        self.layout_name = layout or recognised(path)
        self.layout = require_known(self.layout_name)
        self._files_path = path / PER_VIDEO if self.layout.packs else path

    # --- writing ---------------------------------------------------------------------------------------------------------

    def has(self, video_id: str) -> bool:
        """Whether anything is there of a video's features, right or wrong."""
        return any(self._path(video_id, ending).exists() for ending in (*self.layout.endings, ENDING))

    def targets(self, video_id: str) -> list[Path]:
        """All files that saving a video's features may write."""
        written = {*self.layout.written(STREAM_FILES), ENDING}
        return [self._path(video_id, ending) for ending in sorted(written)]

    def foreign(self, video_id: str) -> Path | None:
        """A file that saving a video's features may overwrite and that was not written here; None: there is none such."""
        record_file = self._path(video_id, ENDING)
        own: set[str] = set()
        if is_record(record_file):
            try:
                record = self._record(video_id)
            except RecordError:
                return None  # which files are its own, it cannot say any more
            if not record or not record.files:
                return None  # they were being written
            own = {record_file.name, *record.files}
        return next((path for path in self.targets(video_id) if path.exists() and path.name not in own), None)

    def other_layout(self) -> str | None:
        """The layout of features that were made here in another one; None: there are none such."""
        for path in sorted(self.path.rglob(f"*{ENDING}")):
            try:
                record = read_record(path)
            except RecordError:
                continue  # no record of ours, or a damaged one: made again
            if record:  # the others are of the same: none is written beside another layout's
                return None if record.layout == self.layout_name else printable(record.layout)
        return None

    def sound(self) -> list[str]:
        """The videos whose files are those of their records, sorted."""
        return [name for name in self.recorded() if self._is_sound(name)]

    def recorded(self) -> list[str]:
        """The videos beside whose files there may be a record, sorted."""
        paths = self._files_path.rglob(f"*{ENDING}")
        return sorted(path.relative_to(self._files_path).as_posix().removesuffix(ENDING) for path in paths)

    def finished(self, video_id: str) -> Finished | None:
        """What a video's record says of files that are there, whose bytes are not looked at; None: there is no such record."""
        try:
            record, path = self._record(video_id), self._path(video_id, ENDING)
            if record is None or record.layout != self.layout_name or not record.files:
                return None
            if not all((path.parent / name).is_file() for name in record.files):
                return None
            return Finished(record, path.stat().st_mtime_ns)
        except (FeatureError, RecordError, OSError):
            return None

    def _is_sound(self, video_id: str) -> bool:
        try:
            record = self._record(video_id)
        except RecordError:
            return False
        return record is not None and record.layout == self.layout_name and not self._damage(video_id, record)

    def fault(self, video_id: str, recipe: FeatureRecipe) -> str | None:
        """Why a video's files are not whole, or not of this recipe, as the end of a sentence; None: verified."""
        try:
            record = self._record(video_id)
        except RecordError as error:
            return f"its record {self._path(video_id, ENDING).name} {error}"
        if record is None:
            return f"it has no record {self._path(video_id, ENDING).name}"
        if record.layout != self.layout_name:
            return f"its record is of the layout {printable(record.layout)}"
        difference = record.difference(recipe)
        return f"it {difference}" if difference else self._damage(video_id, record)

    def save(self, video_id: str, features: FeatureSequence, recipe: FeatureRecipe) -> None:
        """Write a video's files and then their record, each whole or not at all, over whatever is there.

        Raises:
            FeatureError: the name leads out of the folder, or the features are not finite.
            OSError: they cannot be written.
        """
        if not np.isfinite(features.data).all() or not (features.logits is None or np.isfinite(features.logits).all()):
            files = " and ".join(recipe.weights) or "them"
            raise FeatureError(
                f"the features of {shown(features.video.path)} hold numbers that are none (NaN or infinite), so they were not "
                f"saved: the weights of {recipe.backbone} may be damaged, so delete {shown(files)} and have them fetched again"
            )
        record_file = self._path(video_id, ENDING)
        record_file.parent.mkdir(parents=True, exist_ok=True)
        record = FeatureRecord(
            recipe=recipe,
            video_file=features.video.path.name,
            duration_s=features.grid.duration_s,
            decoder=features.decoder,
            layout=self.layout_name,
            streams=features.stream_dims or (("features", features.data.shape[1]),),
            count=features.grid.count,
            files={},
            tal_run=version("tal-run"),
            notes=features.notes,
        )
        is_new = not is_record(record_file)
        if is_new:
            _write_record(record_file, record)
        written: dict[str, str] = {}
        try:
            for ending, content in self.layout.files(features, recipe.sampling).items():
                target = self._path(video_id, ending)
                with written_whole(target) as part:
                    _write_arrays(part, content)
                    digest = sha256_of(part)
                written[target.name] = digest
        except BaseException:
            if is_new and not written:
                record_file.unlink(missing_ok=True)
            raise
        _write_record(record_file, replace(record, files=written))

    def pack(self, video_ids: Iterable[str]) -> Path:
        """Put videos' files into W-TALC's one, in this order, and their names beside it; one is in memory at a time.

        Raises:
            FeatureError, ArrayFileError: there is none, or one is missing or damaged.
            OSError: it cannot be written.
        """
        names = list(video_ids)
        self.packed.write(names, [self.file(name) for name in names])
        return self.packed.file

    # --- reading ---------------------------------------------------------------------------------------------------------

    @property
    def video_ids(self) -> list[str]:
        """The videos whose features are there, sorted."""
        if self.layout.packs:
            return sorted(self.packed.elements)
        found = {
            path.relative_to(self.path).as_posix().removesuffix(ending)
            for ending in self.layout.endings
            for path in self.path.rglob(f"*{ending}")
            if not path.name.startswith(PART)
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
            record = self._record_to_trust(video_id)
        except RecordError as error:
            raise FeatureError(
                f"the features of {where} cannot be trusted: their record {error}; have them made again, or delete the record "
                "and say how they lie in time"
            ) from error
        if record and record.layout != self.layout_name:
            raise FeatureError(
                f"the features of {where} are in the layout {printable(record.layout)}, not {self.layout_name}: name that one"
            )
        found = self._found(video_id, record)
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
        if damage := self._packed_damage(video_id, record) if self.layout.packs else self._damage(video_id, record):
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

    def _record_to_trust(self, video_id: str) -> FeatureRecord | None:
        """The record, if it is one of what is read: a pack that was made elsewhere is not of the videos beside it."""
        return None if self.layout.packs and self.packed.digests is None else self._record(video_id)

    def _found(self, video_id: str, record: FeatureRecord | None) -> Found:
        if not self.layout.packs:
            self.file(video_id)  # refuses names that lead out of the folder
            return self.layout.read(self.path, video_id, record.files if record else None)
        file = shown(self.packed.file)
        if video_id not in self.packed.elements:
            raise FeatureError(f"there are no features of {shown(video_id)} in {file}: check the name")
        data = vectors(self.packed.elements[video_id], f"{file} ({shown(video_id)})")
        return Found(data=data, stream_dims=i3d_streams(data.shape[1]))

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
        return read_record(self._path(video_id, ENDING))

    def _damage(self, video_id: str, record: FeatureRecord) -> str | None:
        """What is wrong with the files that a record names, as the end of a sentence."""
        if not record.files:
            return "it was not finished"
        streams = [name for name, _ in record.streams]
        if set(record.files) != {self._path(video_id, ending).name for ending in self.layout.written(streams)}:
            return "its record names other files"
        for name, digest in record.files.items():
            path = self._path(video_id, ENDING).parent / name
            try:
                if path.exists() and not path.is_file():
                    return f"{path.name} is no file"
                if sha256_of(path) != digest:
                    return f"{path.name} is damaged or was changed"
            except (FileNotFoundError, NotADirectoryError):
                return f"{path.name} is missing"
            except OSError as error:
                return f"{path.name} cannot be read ({error.strerror})"
        return None

    def _packed_damage(self, video_id: str, record: FeatureRecord) -> str | None:
        """Why what was packed of a video is not what its record describes, as the end of a sentence."""
        if (self.packed.digests or {}).get(video_id) not in record.files.values():
            return f"{self.packed.file.name} was packed of others"
        return None


def _write_record(target: Path, record: FeatureRecord) -> None:
    with written_whole(target) as part:
        part.write_text(to_json(record), encoding="ascii")


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


def _pack_in(path: Path) -> Path:
    """The file of all features in a folder: ours, or the only one that is called as published ones are."""
    published = sorted(path.glob(f"*{PACKED}")) if path.is_dir() else []
    return published[0] if len(published) == 1 else path / PACKED
