"""Features of many videos: what is there and right is kept, the rest is made; what a data set lacks is listed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from os.path import realpath
from pathlib import Path
from typing import Any

from tal_run.eval.annotations import AnnotationError
from tal_run.eval.datasets import DatasetError, DatasetFiles
from tal_run.extractors.backbone import Backbone, WindowConfig, check_windows
from tal_run.extractors.feature_files import FeatureFolder
from tal_run.extractors.feature_record import FeatureRecipe
from tal_run.extractors.features import FeatureError, extract
from tal_run.extractors.files import written_whole
from tal_run.extractors.hooks import Hook, ignore_progress
from tal_run.extractors.two_streams import FlowConfig
from tal_run.extractors.video import native_rate, probe
from tal_run.extractors.video_errors import check_file
from tal_run.extractors.weights import sha256_of
from tal_run.extractors.wire import printable
from tal_run.pipeline.outputs import OutputError, cannot_write, is_video

MADE, KEPT, MADE_AGAIN = "made", "kept", "made again"
MISSING_FILE = "missing_files.txt"  # as OpenTAD's configurations call it


@dataclass(frozen=True)
class Outcome:
    """What was done about one video: one of the three kinds, a line about it, and sentences on damage and padding."""

    kind: str
    line: str
    notes: tuple[str, ...] = ()


class FeatureBatch:
    """A folder of features, and how those that are not there are made.

    Args:
        folder: where they lie.
        backbone: the network, loaded.
        windows: how videos are cut; None: as the backbone likes it.
        decoder: ``auto``, ``decord`` or ``pyav``.
        flow: how motion is computed, where the backbone looks at it; None: as ``extract`` does.
        again: make everything again, also over files that were not written here.
        inputs: the videos, none of which is ever written over.

    Raises:
        OutputError: the one file of all features would be written over what was not written here.
        BackboneError: the windows are too short for the network, or too long.
        FlowError: there is no such way to compute flow, or not on this machine.
        FeatureError: who reads the folder's layout takes other windows for granted, or the folder has another layout.
    """

    def __init__(
        self,
        folder: FeatureFolder,
        *,
        backbone: Backbone,
        windows: WindowConfig | None = None,
        decoder: str = "auto",
        flow: FlowConfig | None = None,
        again: bool = False,
        inputs: Iterable[str] = (),
    ) -> None:
        self._folder, self._backbone, self._decoder, self._again = folder, backbone, decoder, again
        self._windows = windows or backbone.default_windows
        check_windows(backbone, self._windows)
        self._flow = flow or FlowConfig()
        self._flow_recipe = self._flow.recipe(backbone.device) if "flow" in backbone.streams else None
        self._inputs = frozenset(map(realpath, inputs))
        if folder.layout.packs:
            self._check_targets(folder.packed.files(), folder.packed.foreign())
        if other := folder.other_layout():
            raise FeatureError(
                f"{folder.path} holds features in the layout {other}: choose another folder with -o, or add --layout {other}"
            )
        fixed = folder.layout.sampling
        if fixed and (self._windows.fps is None or fixed != self._windows.sampling):
            ours = "windows of each video's own frame rate" if self._windows.fps is None else self._windows.sampling
            raise FeatureError(
                f"who reads the layout {folder.layout_name} takes features to be of {fixed}, not {ours}: "
                f"add --fps {fixed.fps:g} --window {fixed.window_frames:g} --stride {fixed.stride_frames:g}"
            )

    @property
    def made_by(self) -> dict[str, Any]:
        """All that decides which features come out of a video, and in which form."""
        return {
            "layout": self._folder.layout_name,
            "backbone": self._backbone.name,
            "weights": dict(self._backbone.weights),
            "windows": asdict(self._windows),
            "decoder": self._decoder,
            "settings": {**self._backbone.settings, **self._windows.settings},
            "flow": asdict(self._flow_recipe) if self._flow_recipe else None,
        }

    def make(self, video: str, video_id: str, *, hook: Hook = ignore_progress) -> Outcome:
        """Make a video's features, unless they are there, whole, and made of the same video in the same way.

        Raises:
            VideoError: the file cannot be read as a video.
            BackboneError: it is too short, and such videos are to be refused.
            OutputError: the features cannot be written, or only over what was not written here.
        """
        check_file(video)
        file = self._folder.file(video_id)
        with _writing(file):
            self._check_targets(self._folder.targets(video_id), self._folder.foreign(video_id))
        windows = self._windows if self._windows.fps is not None else self._windows.at(native_rate(probe(video)))
        recipe = FeatureRecipe(
            video_sha256=sha256_of(Path(video)),
            backbone=self._backbone.name,
            weights=dict(self._backbone.weights),
            sampling=windows.sampling,
            decoder=self._decoder,
            settings={**self._backbone.settings, **windows.settings},
            flow=self._flow_recipe,
        )
        was_there = self._folder.has(video_id)
        fault = "you asked for it" if self._again else self._folder.fault(video_id, recipe)
        if was_there and not fault:
            return Outcome(KEPT, f"{file}: {KEPT}")
        found = extract(video, backbone=self._backbone, windows=windows, decoder=self._decoder, flow=self._flow, hook=hook)
        with _writing(file):
            self._folder.save(video_id, found, recipe)
        line = f"{file}: {found.data.shape[0]} x {found.data.shape[1]}"
        if was_there:
            return Outcome(MADE_AGAIN, f"{line}, {MADE_AGAIN}: {fault}", found.notes)
        return Outcome(MADE, line, found.notes)

    def _check_targets(self, targets: Iterable[Path], foreign: Path | None) -> None:
        """Refuse to write over a video, ever, and over what is not tal-run's, unless everything is to be made again."""
        for target in targets:
            if is_video(target, inputs=self._inputs):
                raise OutputError(f"{printable(target)} is a video and would be overwritten: choose another folder with -o")
            if target.exists() and not target.is_file():
                raise OutputError(f"{printable(target)} is there and is no file: choose another folder with -o")
        if foreign and not self._again:
            raise foreign_error(foreign)


def foreign_error(path: Path) -> OutputError:
    """What to say of features that were not written here."""
    return OutputError(
        f"{printable(path)} is not tal-run's (no record of it is there): choose another folder with -o, or replace "
        "it with --again"
    )


def pack(folder: FeatureFolder) -> str | None:
    """Make the one file that the layout wants of all videos in the folder, in the order of their names.

    Returns:
        A sentence on it; None: the layout wants none, or there are no features.

    Raises:
        OutputError: it cannot be written.
    """
    if not folder.layout.packs:
        return None
    with _writing(folder.packed.file):
        names = folder.sound()
        if not names:
            return None
        return f"{folder.pack(names)}: {len(names)} {'video' if len(names) == 1 else 'videos'}"


@contextmanager
def _writing(target: Path) -> Iterator[None]:
    """Say what goes wrong with a file inside as an OutputError."""
    try:
        yield
    except OSError as error:
        raise cannot_write(target, error) from error


def summary(kinds: Iterable[str], *, failed: int, failed_before: int = 0, left: int = 0) -> str:
    """How many videos went which way, in one line."""
    counts = Counter(kinds)
    parts = [*(f"{counts[kind]} {kind}" for kind in (MADE, KEPT, MADE_AGAIN)), f"{failed} failed"]
    if failed_before:
        parts.append(f"{failed_before} failed before (--retry-failed tries again)")
    return ", ".join([*parts, *([f"{left} left"] if left else [])])


def list_missing(files: DatasetFiles, there: Collection[str], folder: Path) -> str:
    """Write the ids of a data set's annotated videos of which there are no features, one a line, as OpenTAD reads them.

    Args:
        files: the data set.
        there: names of the videos whose features are there.
        folder: where the features lie.

    Returns:
        A sentence on it.

    Raises:
        OutputError: the list cannot be written.
    """
    try:
        annotated = files.annotated()
    except (DatasetError, AnnotationError) as error:
        return f"note: which videos are missing cannot be told: {error}"
    # ActivityNet's files have a prefix that its annotations have not
    known = {name.removeprefix("v_") for name in there}
    missing = [video_id for video_id in annotated if video_id.removeprefix("v_") not in known]
    target = folder / MISSING_FILE
    if is_video(target):
        raise OutputError(f"{printable(target)} leads to a video, which would be overwritten: choose another folder with -o")
    with _writing(target), written_whole(target) as part:
        part.write_text("".join(f"{printable(video_id)}\n" for video_id in missing), encoding="utf-8")
    if not missing:
        return f"all {len(annotated)} annotated videos have features"
    return f"{len(missing)} of {len(annotated)} annotated videos have no features: they are listed in {target}"
