"""From decoded frames to what the published networks were trained on: size, crops, range. One recipe a checkpoint.

    RGB   decoder (size) -> frames uint8 [T, H, W, 3] -> crops -> network_input -> float32 [3, T, S, S]
    flow  frames -> grey -> TV-L1 [T, H, W, 2] in pixels a frame (x, y) -> crops -> network_input -> float32 [2, T, S, S]

What is easily done differently, and is so in other people's features:

- Interpolation is bilinear with pixels' centres at halves and without smoothing, in OpenCV's fixed point (``INTER_LINEAR``)
  and so in whole grey levels, less than one from the exact value; then come crops. Flow is computed on frames of the final
  size, before crops, and never resized itself.
- Short sides come out exactly; long sides are rounded to the nearest pixel, halves to even ones.
- The flow that belongs to a frame is that to the next one; the last frame of a video has that of the one before. (Pictures
  of flow that dense_flow stored belong to the later frame of the two.)
- Grey is ITU-R BT.601, 0.299 R + 0.587 G + 0.114 B, in OpenCV's fixed point, rounded to whole levels.
- Centre crops begin at (H - S) // 2 and (W - S) // 2. Ten crops are the four corners and the centre, then the same mirrored; a
  mirrored flow points the other way in x. A whole frame is not cropped.
- Flow beyond the bound is clipped to it. No rounding to 256 levels follows, which features that went through JPEG files of
  flow have (``quantize(jpeg=True)`` does the rounding, within 0.08 pixels; what JPEG loses comes on top).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tal_run.extractors.backbone import BackboneError, Crop, Preprocessing

Pixels = NDArray[np.uint8] | NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class InputRecipe:
    """What a checkpoint wants to see.

    Attributes:
        stream: pictures or motion.
        frames: length of the clips that its features are taken of.
        fps: frames a second that it was trained at; None: the video's own.
        size: height and width of frames before cropping, whatever their shape was; or one number, the short side.
        side: of the square crop.
        mean: subtracted, one a channel; in grey levels 0..255, or pixels of flow. Zero where a mean clip takes its place.
        deviation: then divided by, likewise.
        least_frames: the shortest clip that the network can see.
        most_frames: the longest; None: there is none.
        flow_bound: pixels of flow in x or y that count at most.
        bgr: the network wants blue first, as one trained in Caffe on what OpenCV read; all else here is in RGB.
    """

    stream: Literal["rgb", "flow"]
    frames: int
    fps: float | None
    size: int | tuple[int, int]
    side: int
    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    least_frames: int
    most_frames: int | None = None
    flow_bound: float = 20.0
    bgr: bool = False

    def preprocessing(self, crop: Crop) -> Preprocessing:
        """What is asked of the decoder, for clips that are then cut by ``crops``; whole frames are left whole."""
        return Preprocessing(
            short_side=None if isinstance(self.size, tuple) else self.size,
            size=self.size if isinstance(self.size, tuple) else None,
            crop=(self.side, self.side) if crop == "center" else None,
            interpolation="opencv",
        )


# Carreira & Zisserman's code: x * 2 / 255 - 1, and flow / 20 after clipping
I3D_RGB = InputRecipe(
    stream="rgb", frames=16, fps=25.0, size=256, side=224, mean=(127.5,) * 3, deviation=(127.5,) * 3, least_frames=9
)
I3D_FLOW = InputRecipe(
    stream="flow", frames=16, fps=25.0, size=256, side=224, mean=(0.0,) * 2, deviation=(20.0,) * 2, least_frames=9
)
# Tran et al. subtract the mean clip of Sports-1M, which is a file of its own (``published_weights.mean_clip``) and is known for
# the centre crop only, so that it stands in for the others' too; their weights come from Caffe
C3D_RGB = InputRecipe(
    stream="rgb",
    frames=16,
    fps=None,
    size=(128, 171),
    side=112,
    mean=(0.0,) * 3,
    deviation=(1.0,) * 3,
    least_frames=16,
    most_frames=16,
    bgr=True,
)
# Qiu et al.: 182 x 242, 160 x 160 of it, less ImageNet's means as Caffe has them; of flow, 8-bit pictures of -20..20 less 128.
# The port declares means and deviations of 0..1 too, but never applied them.
P3D_RGB = InputRecipe(
    stream="rgb",
    frames=16,
    fps=None,
    size=(182, 242),
    side=160,
    mean=(123.0, 117.0, 104.0),
    deviation=(1.0,) * 3,
    least_frames=16,
)
P3D_FLOW = InputRecipe(
    stream="flow",
    frames=16,
    fps=None,
    size=(182, 242),
    side=160,
    mean=(20 / 255,) * 2,
    deviation=(40 / 255,) * 2,
    least_frames=16,
)


def _of_the_hub(
    *, frames: int, every: int, side: int = 256, least_frames: int | None = None, most_frames: int | None = None
) -> InputRecipe:
    """``frames`` x ``every`` in the words of PyTorchVideo's model zoo: so many frames, spread over so many times as many.

    The first and the last of these (of 30 a second) are among them, so that 8 x 8, of 64, are 9 apart.
    """
    return InputRecipe(
        stream="rgb",
        frames=frames,
        fps=30 * (frames - 1) / (frames * every - 1),
        size=side,
        side=side,
        mean=(0.45 * 255,) * 3,
        deviation=(0.225 * 255,) * 3,
        least_frames=least_frames or frames,
        most_frames=most_frames,
    )


# PyTorchVideo's hub: frames and rates of its model zoo, range and sizes of its examples (Slow, SlowFast, X3D) and, for all of
# them, of the PySlowFast configurations that the zoo was measured with, whose test crops are as large as the short side: 256,
# X3D-S 182.
HUB: dict[str, InputRecipe] = {
    "i3d_r50": _of_the_hub(frames=8, every=8),
    "slow_r50": _of_the_hub(frames=8, every=8),
    "slowfast_r50": _of_the_hub(frames=32, every=2, most_frames=32),
    "x3d_s": _of_the_hub(frames=13, every=6, side=182),
    "x3d_m": _of_the_hub(frames=16, every=5),
    "r2plus1d_r50": _of_the_hub(frames=16, every=4, least_frames=13),
    "csn_r101": _of_the_hub(frames=32, every=2, least_frames=25),
}


def grey(frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """RGB frames uint8 [T, H, W, 3] as grey ones [T, H, W]."""
    import cv2

    return np.stack([cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames]).astype(np.uint8, copy=False)


def crops(pixels: Pixels, recipe: InputRecipe, *, crop: Crop = "center") -> list[Pixels]:
    """Frames [T, H, W, 3] or flow [T, H, W, 2] as one clip (``center``, ``whole``) or ten, each [T, S, S, C]; views mostly.

    Raises:
        BackboneError: the frames are smaller than the crop, or there is no such crop.
    """
    height, width = pixels.shape[1:3]
    side = recipe.side
    if crop == "whole":
        return [pixels]
    if crop not in ("center", "ten"):
        raise BackboneError(f"there is no crop {crop!r}: choose one of center, ten, whole")
    if min(height, width) < side:
        raise BackboneError(f"a crop of {side} x {side} does not fit into frames of {width} x {height}: resize them first")
    middle = ((height - side) // 2, (width - side) // 2)
    corners = [(top, left) for top in (0, height - side) for left in (0, width - side)]
    chosen = [
        pixels[:, top : top + side, left : left + side] for top, left in ([*corners, middle] if crop == "ten" else [middle])
    ]
    return chosen if crop == "center" else chosen + [_mirrored(piece) for piece in chosen]


def network_input(pixels: Pixels, recipe: InputRecipe, *, mean_clip: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
    """A clip as its network takes it.

    Args:
        pixels: frames [T, H, W, 3] or flow [T, H, W, 2].
        recipe: the checkpoint's.
        mean_clip: subtracted too, of the clip's shape.

    Returns:
        Float32 [C, T, H, W] in the checkpoint's range.
    """
    values = pixels.astype(np.float32)
    if recipe.stream == "flow":
        np.clip(values, -recipe.flow_bound, recipe.flow_bound, out=values)
    if mean_clip is not None:
        values -= mean_clip
    values -= np.array(recipe.mean, np.float32)
    values /= np.array(recipe.deviation, np.float32)
    if recipe.bgr:
        values = values[..., ::-1]
    return np.ascontiguousarray(values.transpose(3, 0, 1, 2))


def _mirrored(pixels: Pixels) -> Pixels:
    mirrored = pixels[:, :, ::-1]
    if pixels.shape[3] == 2:
        return (mirrored * np.array([-1, 1], np.float32)).astype(np.float32, copy=False)
    return mirrored
