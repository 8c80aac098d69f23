"""Detection with a head that learnt from frames: the video streams through it, and no features are made."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tal_run.extractors.backbone import BackboneOptions, WindowConfig
from tal_run.extractors.features import FeatureError, Features
from tal_run.extractors.hooks import Hook, ignore_progress
from tal_run.extractors.registry import AUTO
from tal_run.extractors.video import native_rate, open_video
from tal_run.extractors.wire import printable
from tal_run.models import Detection
from tal_run.models.head import HeadError, TrainedHead, load_head
from tal_run.models.scnn_frames import localize
from tal_run.models.scnn_network import FRAME_SIZES, Scnn
from tal_run.pipeline.detector import DetectConfig, VideoResult
from tal_run.pipeline.query import QueryMatch
from tal_run.pipeline.trained_detector import TrainedDetector

if TYPE_CHECKING:
    from tal_run.pipeline.query import Vectors

STEP = "watching"


@dataclass(frozen=True, kw_only=True)
class FramesNetwork:
    """What stands in the backbone's place where results say what made them: the head's own networks."""

    name: str
    device: str
    weights: dict[str, str] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    streams: tuple[str, ...] = ("rgb",)


def learnt_from_frames(trained: TrainedHead) -> bool:
    """Whether a head takes frames, and no features."""
    return isinstance(trained.network, Scnn) and trained.network.config.trunk != "rows"


def frames_config(checkpoint: str | os.PathLike[str], watching: dict[str, Any]) -> DetectConfig | None:
    """The configuration that a command line's options ask for; None: the head takes features.

    Raises:
        HeadError: the checkpoint cannot be read.
        FeatureError: another network is to watch.
    """
    trained = load_head(checkpoint)
    if not learnt_from_frames(trained):
        return None
    if watching["backbone"] not in (None, AUTO) or any(watching.get(name) is not None for name in ("window", "stride")):
        raise FeatureError(
            f"{printable(checkpoint)} learnt from frames, and looks at windows of its own: leave out --backbone, --window and "
            "--stride"
        )
    fps = watching["fps"] if isinstance(watching["fps"], float) else None
    windows = _windows(trained, Path(checkpoint))
    return DetectConfig(
        backbone=f"scnn-{trained.config.trunk}",
        windows=replace(windows, fps=fps) if watching["fps"] is not None else windows,
        decoder=watching["decoder"],
        options=BackboneOptions(device=watching["device"]),
        top_classes=None,
    )


def trained_detector(checkpoint: str | os.PathLike[str], config: DetectConfig, **more: Any) -> TrainedDetector:
    """What detects with the head in a file, by what it learnt from; arguments and errors as ``TrainedDetector``."""
    kind = FramesDetector if learnt_from_frames(load_head(checkpoint)) else TrainedDetector
    return kind(checkpoint, config, **more)


class FramesDetector(TrainedDetector):
    """S-CNN as it learnt from frames, loaded once, for any number of videos; arguments as ``TrainedDetector``."""

    def __init__(
        self,
        checkpoint: str | os.PathLike[str],
        config: DetectConfig | None = None,
        *,
        min_score: float | None = None,
        vectors: Vectors = None,
        hook: Hook = ignore_progress,
    ) -> None:
        self.checkpoint, self.min_score, self._vectors = Path(checkpoint), min_score, vectors
        self.takes_any_words = False
        trained = load_head(checkpoint)
        if not learnt_from_frames(trained):
            raise HeadError(f"{printable(checkpoint)} takes features, and no frames: give it to TrainedDetector")
        config = config or DetectConfig(top_classes=None)
        options = config.options or BackboneOptions()
        windows = config.windows or _windows(trained, self.checkpoint)
        name = f"scnn-{trained.config.trunk}"
        self.config = replace(config, backbone=name, windows=windows, options=options)
        self.backbone = FramesNetwork(name=name, device=options.device)  # type: ignore[assignment]
        self.trained = replace(trained, network=trained.network.to(options.device))

    def detect(
        self, video: str | os.PathLike[str], *, matches: Sequence[QueryMatch] = (), hook: Hook = ignore_progress
    ) -> VideoResult:
        """Find actions in one video.

        Raises:
            VideoError: the file cannot be read as a video.
        """
        network, windows = self.trained.network, self.windows
        assert isinstance(network, Scnn)
        with open_video(video, decoder=self.config.decoder) as reader:
            fps, duration_s = windows.at(native_rate(reader.info)).rate, reader.info.duration_s

            def chunks() -> Any:
                size = FRAME_SIZES[network.config.trunk]
                for chunk in reader.frames(fps=fps, size=size, interpolation="opencv"):
                    hook(STEP, completed=min(duration_s, (chunk.first_index + len(chunk)) / fps), total=duration_s)
                    yield chunk.frames

            segments, scores, classes = localize(network.eval(), chunks())
            seconds = np.minimum(segments / fps, duration_s)
            every = [
                Detection(float(start), float(end), self.trained.labels[index], float(score))
                for (start, end), score, index in zip(seconds, scores, classes, strict=True)
                if end > start
            ]
            return VideoResult(
                path=Path(video),
                detections=tuple(self.chosen(every, matches)),
                video=reader.info,
                decoder=reader.decoder,
                notes=tuple(reader.notes),
            )

    def find(self, features: Features, matches: Sequence[QueryMatch] = ()) -> list[Detection]:
        """Not to be had: it takes frames. Raises FeatureError."""
        raise FeatureError(f"{self.checkpoint.name} learnt from frames and takes no features: give it the video")


def _windows(trained: TrainedHead, checkpoint: Path) -> WindowConfig:
    """How videos are cut, the shortest windows standing for all. Raises HeadError: it is not said."""
    try:
        fps = trained.recipe["watching"]["fps"]
        shortest = trained.config.window_lengths[0]
        hop = max(1, round(shortest * (1 - trained.config.window_overlap)))
        return WindowConfig(fps=None if fps is None else float(fps), window_frames=shortest, stride_frames=hop)
    except (KeyError, TypeError, ValueError) as error:
        raise HeadError(
            f"{printable(checkpoint)} does not say how its videos were watched ({printable(str(error))}): train it anew"
        ) from error
