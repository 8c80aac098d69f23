"""The published clip networks as backbones: I3D, C3D, P3D-199 and PyTorchVideo's, each stream by a network of its own.

    window of frames ── crops ── network_input ── network "rgb"  ── features [D1] ─┐
    window of flow   ── crops ── network_input ── network "flow" ── features [D2] ─┴─ one behind the other, [D1 + D2]

Logits of two streams are added, as Carreira & Zisserman do (CVPR 2017, Section 3). Ten crops give the mean of their features
and logits. The networks themselves are in ``i3d.py``, ``c3d.py``, ``p3d.py`` and ``hub_networks.py``, their weights in
``published_weights.py``, what is done to frames in ``recipes.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from tal_run.extractors import published_weights
from tal_run.extractors.backbone import MOST_FRAMES, BackboneError, BackboneOptions, Preprocessing, Rows, WindowConfig
from tal_run.extractors.hooks import Hook, ignore_progress
from tal_run.extractors.published_weights import PUBLISHED
from tal_run.extractors.recipes import InputRecipe, crops, network_input
from tal_run.extractors.weights import WeightsError, WeightsFile, locate, sha256_of

if TYPE_CHECKING:
    from torch import nn


class ClipNetwork:
    """A backbone of one or two published networks.

    Args:
        options: device, precision, crop.
        networks: trained networks of the same kinds, a stream each, instead of the published ones; for those that have neither
            names for their classes nor a checkpoint that is known.
        hook: told of downloads and conversions.

    Raises:
        WeightsError: the weights cannot be had, or are not those of these networks.
        BackboneError: it cannot work as asked.
    """

    name: ClassVar[str]
    knows: ClassVar[str]
    published: ClassVar[Mapping[str, str]]  # streams, and the names of their networks in ``PUBLISHED``
    streams: ClassVar[tuple[str, ...]]
    feature_dim: ClassVar[int]
    layer: ClassVar[str | None] = None  # whose output the features are, where there is a choice
    default_windows: ClassVar[WindowConfig]
    window_lengths: ClassVar[range]
    takes_whole: ClassVar[bool] = True  # frames, not crops of one size only
    files: ClassVar[tuple[WeightsFile, ...]]
    has_labels: ClassVar[bool]
    multi_label: ClassVar[bool] = False

    def __init_subclass__(cls) -> None:
        entries = [PUBLISHED[name] for name in cls.published.values()]
        cls.streams = tuple(cls.published)
        cls.files = tuple(file for entry in entries for file in (entry.file, entry.mean_file) if file is not None)
        cls.window_lengths = range(
            max(entry.recipe.least_frames for entry in entries),
            min(entry.recipe.most_frames or MOST_FRAMES for entry in entries) + 1,
        )
        cls.has_labels = all(entry.label_file is not None for entry in entries)

    def __init__(
        self,
        *,
        options: BackboneOptions | None = None,
        networks: Mapping[str, nn.Module] | None = None,
        hook: Hook = ignore_progress,
    ) -> None:
        from tal_run.extractors.fast_inference import for_inference, resolved_precision

        options = options or BackboneOptions()
        if options.crop == "whole" and not self.takes_whole:
            side = PUBLISHED[next(iter(self.published.values()))].recipe.side
            raise BackboneError(f"{self.name} sees frames of {side} x {side} only, not whole ones: take --crop center or ten")
        precision = resolved_precision(options.precision, options.device)
        self.device, self._crop = options.device, options.crop
        self.settings: Mapping[str, str] = {"precision": precision, "crop": options.crop}
        self._recipes: dict[str, InputRecipe] = {stream: PUBLISHED[name].recipe for stream, name in self.published.items()}
        self.preprocessing: Preprocessing = next(iter(self._recipes.values())).preprocessing(options.crop)
        self._networks: dict[str, Any] = {}
        self._mean_clips: dict[str, NDArray[np.float32] | None] = {}
        self.labels: tuple[str, ...] = ()
        self.weights: Mapping[str, str] = {}
        if networks is not None and networks.keys() != self.published.keys():
            raise BackboneError(
                f"{self.name} takes a network for each of {', '.join(self.published)}, got {', '.join(networks)}"
            )
        if networks is None:
            locate(*self.files, hook=hook, pin_first=False)  # what is missing is said of all files at once
        for stream, name in self.published.items():
            given = networks[stream] if networks is not None else published_weights.load(name, hook=hook)
            self._networks[stream] = for_inference(given, precision=precision, device=options.device)
            self._mean_clips[stream] = published_weights.mean_clip(name, hook=hook) if networks is None else None
        if networks is None:
            self.weights = {file.file_name: sha256_of(path) for file, path in zip(self.files, locate(*self.files), strict=True)}
            self.labels = _labels_if_there(next(iter(self.published.values())), hook)

    def __call__(self, frames: NDArray[np.uint8], flow: NDArray[np.float32] | None = None, /) -> Rows:
        """One window, uint8 [T, H, W, 3] and, if it looks at flow, float32 [T, H, W, 2] in pixels."""
        import torch

        features, logits = [], []
        with torch.inference_mode():
            for stream, network in self._networks.items():
                recipe, mean_clip = self._recipes[stream], self._mean_clips[stream]
                pixels = frames if stream == "rgb" else flow
                if pixels is None:
                    raise BackboneError(f"{self.name} looks at optical flow, and was given none")
                clips = [network_input(clip, recipe, mean_clip=mean_clip) for clip in crops(pixels, recipe, crop=self._crop)]
                clip_features, clip_logits = self._see(network, torch.from_numpy(np.stack(clips)))
                features.append(clip_features.mean(dim=0).cpu().numpy())
                logits.append(clip_logits.mean(dim=0).float().cpu().numpy())
        summed: NDArray[np.float32] = np.sum(logits, axis=0, dtype=np.float32)
        return np.concatenate(features), summed if self.labels else None

    def _see(self, network: Any, clips: Any) -> tuple[Any, Any]:
        """Features [B, D] and logits [B, K] of clips [B, C, T, S, S]."""
        features = network.features(clips)
        return features, network.classify(features)


def _labels_if_there(name: str, hook: Hook) -> tuple[str, ...]:
    """Names of the classes; none where nobody wrote them down or the file cannot be had: features do not need them."""
    try:
        return published_weights.labels(name, hook=hook) or ()
    except WeightsError:
        return ()


_CLIP_AT_25_FPS = WindowConfig(fps=25.0, window_frames=16, stride_frames=16)
_CLIP_AT_NATIVE_FPS = WindowConfig(fps=None, window_frames=16, stride_frames=16)


class I3DTwoStream(ClipNetwork):
    """Inception I3D on pictures and flow: the features of nearly all work on temporal localization since 2018."""

    name = "i3d"
    knows = "400 actions of Kinetics, by appearance and motion"
    published: ClassVar[Mapping[str, str]] = {"rgb": "i3d-rgb", "flow": "i3d-flow"}
    feature_dim = 2048
    default_windows = _CLIP_AT_25_FPS


class I3DRgb(ClipNetwork):
    """Its half that looks at pictures."""

    name = "i3d-rgb"
    knows = "400 actions of Kinetics"
    published: ClassVar[Mapping[str, str]] = {"rgb": "i3d-rgb"}
    feature_dim = 1024
    default_windows = _CLIP_AT_25_FPS


class I3DFlow(ClipNetwork):
    """Its half that looks at motion."""

    name = "i3d-flow"
    knows = "400 actions of Kinetics, by motion alone"
    published: ClassVar[Mapping[str, str]] = {"flow": "i3d-flow"}
    feature_dim = 1024
    default_windows = _CLIP_AT_25_FPS


class C3DFc6(ClipNetwork):
    """C3D, whose fc6 is what Tran et al. and others call C3D features."""

    name = "c3d"
    knows = "487 sports of Sports-1M"
    published: ClassVar[Mapping[str, str]] = {"rgb": "c3d"}
    feature_dim = 4096
    layer = "fc6"
    takes_whole = False
    default_windows = _CLIP_AT_NATIVE_FPS

    def _see(self, network: Any, clips: Any) -> tuple[Any, Any]:
        fc6 = network.features(clips, layer="fc6")
        fc7 = network.fc7_of(fc6)
        return (fc6 if self.layer == "fc6" else fc7), network.classify(fc7)


class C3DFc7(C3DFc6):
    """C3D, the layer above."""

    name = "c3d-fc7"
    layer = "fc7"


class P3DRgb(ClipNetwork):
    """P3D-199, features of pool5."""

    name = "p3d"
    knows = "features only: the order of its 400 classes of Kinetics was never published"
    published: ClassVar[Mapping[str, str]] = {"rgb": "p3d"}
    feature_dim = 2048
    default_windows = _CLIP_AT_NATIVE_FPS


class P3DTwoStream(ClipNetwork):
    """P3D-199 on pictures and flow."""

    name = "p3d-two-stream"
    knows = P3DRgb.knows
    published: ClassVar[Mapping[str, str]] = {"rgb": "p3d", "flow": "p3d-flow"}
    feature_dim = 4096
    default_windows = _CLIP_AT_NATIVE_FPS


def _clips_of_the_hub(name: str) -> WindowConfig:
    """Clips as it was trained on, 2.1 to 2.8 s long, as near to a second apart as frames are: each moment is seen twice."""
    recipe = PUBLISHED[name].recipe
    assert recipe.fps is not None
    return WindowConfig(fps=recipe.fps, window_frames=recipe.frames, stride_frames=round(recipe.fps))


class I3DResNet50(ClipNetwork):
    """I3D on a ResNet-50, from PyTorchVideo's hub."""

    name = "i3d_r50"
    knows = I3DRgb.knows
    published: ClassVar[Mapping[str, str]] = {"rgb": "i3d_r50"}
    feature_dim = 2048
    default_windows = _clips_of_the_hub("i3d_r50")


class SlowResNet50(ClipNetwork):
    """SlowFast's slow pathway alone, a ResNet-50 that looks at time in its last two stages only."""

    name = "slow_r50"
    knows = I3DRgb.knows
    published: ClassVar[Mapping[str, str]] = {"rgb": "slow_r50"}
    feature_dim = 2048
    default_windows = _clips_of_the_hub("slow_r50")


class SlowFastResNet50(ClipNetwork):
    """SlowFast: few frames by a wide network, many by a narrow one."""

    name = "slowfast_r50"
    knows = I3DRgb.knows
    published: ClassVar[Mapping[str, str]] = {"rgb": "slowfast_r50"}
    feature_dim = 2304
    default_windows = _clips_of_the_hub("slowfast_r50")


class X3DSmall(ClipNetwork):
    """X3D-S, the quickest of the hub's here."""

    name = "x3d_s"
    knows = I3DRgb.knows
    published: ClassVar[Mapping[str, str]] = {"rgb": "x3d_s"}
    feature_dim = 2048
    default_windows = _clips_of_the_hub("x3d_s")


class X3DMedium(ClipNetwork):
    """X3D-M, the same on more and larger frames."""

    name = "x3d_m"
    knows = I3DRgb.knows
    published: ClassVar[Mapping[str, str]] = {"rgb": "x3d_m"}
    feature_dim = 2048
    default_windows = _clips_of_the_hub("x3d_m")


class R2Plus1DResNet50(ClipNetwork):
    """R(2+1)D on a ResNet-50: convolutions over time and over space by turns."""

    name = "r2plus1d_r50"
    knows = I3DRgb.knows
    published: ClassVar[Mapping[str, str]] = {"rgb": "r2plus1d_r50"}
    feature_dim = 2048
    default_windows = _clips_of_the_hub("r2plus1d_r50")


class CSNResNet101(ClipNetwork):
    """Channel-separated ResNet-101: convolutions over space and time, each in one channel."""

    name = "csn_r101"
    knows = I3DRgb.knows
    published: ClassVar[Mapping[str, str]] = {"rgb": "csn_r101"}
    feature_dim = 2048
    default_windows = _clips_of_the_hub("csn_r101")
