"""The forms in which features lie on disk, tal-run's own and others', and how each says where its snippets lie in time.

==================  ==========================================  ====================================================
layout              files                                       the middle of snippet k, in seconds
==================  ==========================================  ====================================================
``tal-run``         ``ID.npz``: ``features`` [T, D], ``logits``  ``seconds`` [T, 2] holds each window's start and end
                    [T, K], ``labels`` [K], ``seconds`` …
``actionformer``    ``ID.npy`` [T, D], or ``ID.npz`` with        (k · stride + num_frames / 2) / fps [1]_
                    ``feats``; RGB before flow
``opentad``         the same                                    (k · snippet_stride + offset_frames) / fps [2]_
``wtalc``           ``JOINTFeatures.npy``, an object array of    (k + 1/2) · 16 / 25 [3]_
                    N times [T, D], RGB before flow; the N
                    names in ``videoname.npy``
``video_features``  ``ID_rgb.npy``, ``ID_flow.npy`` … [T, D],    ``ID_timestamps_ms.npy`` holds each window's end;
                    ``ID_fps.npy``, ``ID_timestamps_ms.npy``     of single frames (0 first), the frames' times [4]_
==================  ==========================================  ====================================================

What the files of ``actionformer`` and ``opentad`` leave open (fps, stride, window) stands in those projects' configuration,
and here in the record beside the files, or is given as a ``Sampling``.

.. [1] github.com/happyharrycn/actionformer_release, libs/datasets/thumos14.py: grid = (t · fps - num_frames / 2) / stride.
       THUMOS'14 I3D: stride 4, 16 frames, each video's own fps; ActivityNet TSP: ``v_ID.npy``, 15 fps, 16 frames, stride 16.
.. [2] github.com/sming256/OpenTAD, opentad/datasets/thumos.py: grid = (frame - offset_frames) / snippet_stride, fps = the
       video's frames / its duration; configs/_base_/datasets: offset_frames = 8 for windows of 16.
.. [3] github.com/sujoyp/wtalc-pytorch, detectionMAP.py: snippet = t · 25 / 16; video_dataset.py for the files.
.. [4] github.com/v-iashin/video_features, models/i3d/extract_i3d.py: the timestamp of the frame after the stack's last;
       models/_base/base_framewise_extractor.py: that of the frame.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tal_run.extractors.array_files import Array, ArrayFileError, names_in_npz, read_npy, read_npz, shown
from tal_run.extractors.feature_record import ENDING, MAX_SECONDS, MIN_STEP_S, RecordError, read_record
from tal_run.extractors.features import FeatureError, Features, joined
from tal_run.extractors.files import PART
from tal_run.extractors.names import choices
from tal_run.extractors.timegrid import Sampling, TimeGrid

OWN = "tal-run"
PACKED, PACKED_NAMES, PER_VIDEO = "JOINTFeatures.npy", "videoname.npy", "per-video"
I3D_DIM = 1024  # of one stream
# dimensions that feature vectors are published with, and lengths of videos in snippets seldom are
USUAL_DIMS = frozenset({256, 400, 480, 512, 768, 1024, 1408, 2048, 2304, 4096})
# what video_features calls its networks' outputs
STREAM_FILES = ("rgb", "flow", "r21d", "s3d", "clip", "resnet", "timm", "vggish", "features")
FPS, TIMESTAMPS = "_fps.npy", "_timestamps_ms.npy"

Files = dict[str, Array | dict[str, Array]]  # ending of the name -> one array (.npy) or several (.npz)


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a layout's files say of one video.

    Attributes:
        data: the feature vectors, float32 [T, D].
        grid: where they lie in time, as far as the files say.
        stream_dims, logits, labels, multi_label: as in ``Features``.
    """

    data: NDArray[np.float32]
    grid: TimeGrid | None = None
    stream_dims: tuple[tuple[str, int], ...] = ()
    logits: NDArray[np.float32] | None = None
    labels: tuple[str, ...] = ()
    multi_label: bool = False


@dataclass(frozen=True, kw_only=True)
class Layout:
    """One form of feature files.

    Attributes:
        files: the files of one video's features.
        read: one video's features in a folder, below its name there, of those files that a record names, if there is one.
        endings: of the files' names, behind the video's; each video has one of them at least.
        sampling: the one that readers of this layout take for granted.
        packs: the videos' files, in the folder ``PER_VIDEO``, are put into one in the end.
        is_by_stream: each stream has a file of its own.
    """

    files: Callable[[Features, Sampling], Files]
    read: Callable[[Path, str, Collection[str] | None], Found]
    endings: tuple[str, ...]
    sampling: Sampling | None = None
    packs: bool = False
    is_by_stream: bool = False

    def written(self, streams: Iterable[str]) -> tuple[str, ...]:
        """The endings of the files that are written of one video's features."""
        return (*(f"_{name}.npy" for name in streams), FPS, TIMESTAMPS) if self.is_by_stream else self.endings[:1]


def vectors(array: Array, where: str) -> NDArray[np.float32]:
    """An array as feature vectors, float32 [T, D], T and D at least 1, finite.

    Raises:
        FeatureError: it is nothing of the kind; the message says what it is.
    """
    if not isinstance(array, np.ndarray) or array.dtype.kind != "f":
        kind = array.dtype if isinstance(array, np.ndarray) else type(array).__name__
        raise FeatureError(f"{where} holds {kind}, not floating-point numbers: save the features as float32")
    if array.ndim != 2:
        raise FeatureError(f"{where} has the shape {array.shape}, not [T, D]: of several crops, save the mean")
    if not array.size:
        raise FeatureError(f"{where} holds no snippet (shape {array.shape}): was the video shorter than one window?")
    with np.errstate(over="ignore"):  # float64 beyond float32 becomes infinite, and is refused
        data = np.array(array, np.float32, order="C")
    finite = np.isfinite(data).all(axis=1)
    if not finite.all():
        raise FeatureError(
            f"{where} holds numbers that are none (NaN or infinite) in {np.count_nonzero(~finite)} of {len(data)} snippets, "
            f"first in snippet {np.argmin(finite)}: extract it again"
        )
    return data


def _own_files(features: Features, _: Sampling) -> Files:
    starts_s = features.grid.centers_s - features.grid.window_s / 2
    arrays: dict[str, Array] = {
        "features": features.data,
        "seconds": np.stack([starts_s, starts_s + features.grid.window_s], axis=1),  # [T, 2]
        "labels": np.array(features.labels, np.str_),
        "multi_label": np.array(features.multi_label),
    }
    if features.logits is not None:
        arrays["logits"] = features.logits
    return {".npz": arrays}


def _read_own(folder: Path, video_id: str, _: Collection[str] | None) -> Found:
    path = folder / f"{video_id}.npz"
    arrays = read_npz(path, ("features", "seconds", "labels", "multi_label", "logits"))
    if not {"features", "seconds"} <= set(arrays):
        raise FeatureError(f"{shown(path)} lacks features or seconds, so it is not in tal-run's layout: name another one")
    data, seconds = vectors(arrays["features"], shown(path)), arrays["seconds"]
    labels = tuple(str(label) for label in arrays.get("labels", np.array([])).reshape(-1))
    logits = arrays.get("logits")
    if (
        seconds.shape != (len(data), 2)
        or seconds.dtype.kind != "f"
        or (logits is not None and logits.shape != (len(data), len(labels)))
    ):
        raise FeatureError(f"the arrays in {shown(path)} do not belong together: have it made again")
    seconds = seconds.astype(np.float64)
    return Found(
        data=data,
        grid=_grid_of(seconds[:, 0], float(seconds[0, 1]) - float(seconds[0, 0]), shown(path)),
        logits=None if logits is None else vectors(logits, f"{shown(path)} (logits)"),
        labels=labels,
        multi_label=bool(arrays.get("multi_label", np.array(False)).any()),
    )


def _joint_file(features: Features, _: Sampling) -> Files:
    return {".npy": features.data}


def _read_joint(folder: Path, video_id: str, named: Collection[str] | None) -> Found:
    if (path := folder / f"{video_id}.npz").is_file() and (named is None or path.name in named):
        arrays = read_npz(path, ("feats",))
        if "feats" not in arrays:
            raise FeatureError(f"{shown(path)} has no array `feats`: save the features under that name, or as .npy")
        return Found(data=vectors(arrays["feats"], shown(path)))
    path = folder / f"{video_id}.npy"
    return Found(data=vectors(read_npy(path), shown(path)))


def _stream_files(features: Features, sampling: Sampling) -> Files:
    ends_s = features.grid.centers_s + features.grid.window_s / 2
    streams = {f"_{name}.npy": array for name, array in features.streams.items()}
    return {**streams, FPS: np.array(float(sampling.fps)), TIMESTAMPS: ends_s * 1000}


def _read_streams(folder: Path, video_id: str, named: Collection[str] | None) -> Found:
    paths = {name: folder / f"{video_id}_{name}.npy" for name in STREAM_FILES}
    there = {name: path for name, path in paths.items() if path.is_file() and (named is None or path.name in named)}
    streams = {name: vectors(read_npy(path), shown(path)) for name, path in there.items()}
    if not streams:
        raise FeatureError(
            f"there are no features {shown(paths['rgb'])} or the like ({', '.join(STREAM_FILES)}): check the name"
        )
    data, stream_dims = joined(streams)
    return Found(data=data, stream_dims=stream_dims, grid=_grid_of_timestamps(folder, video_id, len(data)))


def _grid_of_timestamps(folder: Path, video_id: str, count: int) -> TimeGrid | None:
    """The grid that the files of fps and timestamps tell; None where there are none."""
    if not (path := folder / f"{video_id}{TIMESTAMPS}").is_file():
        return None
    times_ms, fps = (read_npy(folder / f"{video_id}{ending}").reshape(-1) for ending in (TIMESTAMPS, FPS))
    are_numbers = {times_ms.dtype.kind, fps.dtype.kind} <= set("fiu")
    if not are_numbers or len(times_ms) != count or len(fps) != 1 or not 0 < fps[0] < np.inf:
        raise FeatureError(f"{shown(path)} and the fps do not belong to {count} snippets: extract the video again")
    times_s = times_ms / 1000
    of_frames = times_s[0] <= 0
    window_s = 1 / float(fps[0]) if of_frames else float(times_s[0])  # the first window starts with the video
    return _grid_of(times_s if of_frames else times_s - window_s, window_s, shown(path))


def _grid_of(starts_s: Array, window_s: float, where: str) -> TimeGrid:
    """The grid of windows that start at equally spaced times [T]. Raises FeatureError: they are not."""
    nonsense = FeatureError(f"{where} holds times that are none: have it made again")
    if not (np.abs(starts_s) < MAX_SECONDS).all() or not MIN_STEP_S <= window_s < MAX_SECONDS:
        raise nonsense
    count = len(starts_s)
    step_s = float(starts_s[-1] - starts_s[0]) / (count - 1) if count > 1 else window_s
    if step_s < MIN_STEP_S or np.abs(starts_s - (starts_s[0] + step_s * np.arange(count))).max() > step_s / 2:
        raise FeatureError(
            f"{where} holds times that are not equally far apart, as all heads take them to be: extract the video again at a "
            "constant rate"
        )
    end_s = float(starts_s[-1]) + window_s
    try:
        return TimeGrid(step_s=step_s, window_s=window_s, count=count, duration_s=end_s, start_s=float(starts_s[0]))
    except ValueError as error:  # it ends before the video begins
        raise nonsense from error


def i3d_streams(dim: int) -> tuple[tuple[str, int], ...]:
    """The streams of W-TALC's feature vectors: RGB and flow, if it is I3D's two that are there."""
    return (("rgb", I3D_DIM), ("flow", I3D_DIM)) if dim == 2 * I3D_DIM else ()


LAYOUTS: dict[str, Layout] = {
    OWN: Layout(files=_own_files, read=_read_own, endings=(".npz",)),
    "actionformer": Layout(files=_joint_file, read=_read_joint, endings=(".npy", ".npz")),
    "opentad": Layout(files=_joint_file, read=_read_joint, endings=(".npy", ".npz")),
    "wtalc": Layout(
        files=_joint_file,
        read=_read_joint,
        endings=(".npy",),
        sampling=Sampling(fps=25, stride_frames=16, window_frames=16, offset_frames=8),
        packs=True,
    ),
    "video_features": Layout(
        files=_stream_files, read=_read_streams, endings=tuple(f"_{name}.npy" for name in STREAM_FILES), is_by_stream=True
    ),
}


def require_known(name: str) -> Layout:
    """The layout of that name. Raises FeatureError: there is none."""
    if name not in LAYOUTS:
        raise FeatureError(f"there is no layout {name!r}: {choices(name, LAYOUTS)}")
    return LAYOUTS[name]


def recognised(folder: Path) -> str:
    """The layout of the files in a folder: the one that a record names, or the one that their names and arrays tell.

    Raises:
        FeatureError: there are none, or it is not clear.
    """
    for path in sorted(folder.rglob(f"*{ENDING}")):
        try:
            record = read_record(path)
        except RecordError:
            continue  # none of ours, or a damaged one
        if record and record.files and record.layout in LAYOUTS:
            return record.layout
    paths = [path for path in sorted(folder.rglob("*.np[yz]")) if not path.name.startswith(PART)]
    names = [path.name for path in paths]
    if any(name.endswith(PACKED) for name in names):
        return "wtalc"
    if any(name.endswith(TIMESTAMPS) for name in names):
        return "video_features"
    archives = [path for path in paths if path.suffix == ".npz"]
    for path in archives:
        try:
            arrays = names_in_npz(path)
        except ArrayFileError:
            continue  # what can be read tells
        if {"features", "seconds"} <= arrays:
            return OWN
        break
    if names:
        return "actionformer"
    raise FeatureError(f"there are no features (.npy, .npz) in {shown(folder)}: check the path")
