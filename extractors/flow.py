"""Dense optical flow by TV-L1, the motion that two-stream networks look at.

Zach, Pock & Bischof, "A Duality Based Approach for Realtime TV-L1 Optical Flow", DAGM 2007; Sánchez Pérez, Meinhardt-
Llopis & Facciolo, "TV-L1 Optical Flow Estimation", IPOL 2013 (algorithm 1). Sought is the u that minimises

    sum |grad u1| + |grad u2| + lambda |rho(u)|,    rho(u) = I1(x + u0) + grad I1(x + u0) . (u - u0) - I0(x)

by turns, with dual variables p, one pair for each component of u:

    V:  v = u - clip(rho(u) / |grad I1|^2, -lambda theta, lambda theta) grad I1     the thresholding step
    U:  u = v + theta div p
    P:  p = (p + tau / theta grad u) / (1 + tau / theta |grad u|)

Around these iterations stand warps (new u0), and scales from coarse to fine.

Notation: tau, lambda, theta, epsilon as in the papers; a warp of either paper has ``outer_iterations`` x
``inner_iterations`` iterations. What differs from the papers is as OpenCV's ``DualTVL1OpticalFlow`` does it: a median over u
before each outer iteration, pictures in 0..255 without smoothing, zeros outside of the warped picture, zooms that are linear,
and p kept from one warp to the next. OpenCV's gamma (illumination) is 0, the default of both its versions.

Backends, all of one algorithm:

- ``opencv-cuda``: ``cv2.cuda.OpticalFlowDual_TVL1``, in a build of OpenCV with CUDA. It has no median.
- ``torch``: batches of pairs on a GPU, or on any device of torch's.
- ``numba``: compiled for this CPU, pairs in parallel. The same flow as ``opencv`` within hundredths of a pixel.
- ``opencv``: ``cv2.optflow.DualTVL1OpticalFlow``, the reference.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tal_run.extractors.errors import TalRunError
from tal_run.extractors.hooks import Hook, ignore_progress
from tal_run.extractors.names import choices

__all__ = [
    "AUTO",
    "BACKENDS",
    "OPENCV_CUDA_PARAMS",
    "PRESETS",
    "FlowError",
    "FlowStream",
    "TVL1Params",
    "best_backend",
    "from_uint8",
    "quantize",
    "to_uint8",
    "tvl1_flow",
]

logger = logging.getLogger(__name__)

# OpenCV's: no scale is smaller than this
LEAST_SIDE = 16
# Pixels per frame that ±1 stands for: what I3D and TSN were trained on (Carreira & Zisserman 2017; Wang et al. 2016).
BOUND = 20.0
AUTO = "auto"


class FlowError(TalRunError):
    """A way of computing flow that does not exist or is not on this machine."""


@dataclass(frozen=True, kw_only=True)
class TVL1Params:
    """TV-L1's parameters by the papers' symbols. The defaults are OpenCV's for CPUs.

    Attributes:
        tau: time step of P; up to 1/4 it converges in practice, up to 1/8 by proof (Chambolle 2004).
        lambda_: weight of the data: the smaller, the smoother the flow.
        theta: how far v may be from u: the smaller, the nearer.
        scales: scales of the pyramid, at most; none has a side below 16 pixels.
        scale_step: size of a scale relative to the finer one.
        warps: warps at each scale.
        epsilon: a warp ends when u moves by less than this (pixels, root mean square) in one iteration.
        inner_iterations: iterations from one median to the next.
        outer_iterations: medians in a warp, at most.
        median: side of the median's window over u, 3 or 5; 0 or 1: none.
    """

    tau: float = 0.25
    lambda_: float = 0.15
    theta: float = 0.3
    scales: int = 5
    scale_step: float = 0.8
    warps: int = 5
    epsilon: float = 0.01
    inner_iterations: int = 30
    outer_iterations: int = 10
    median: int = 5

    def __post_init__(self) -> None:
        positive = (self.tau, self.lambda_, self.theta)
        if not all(math.isfinite(number) and number > 0 for number in positive):
            raise ValueError(f"tau, lambda and theta must be above 0, got {self.tau:g}, {self.lambda_:g} and {self.theta:g}")
        if not (0 < self.scale_step < 1 and 0 <= self.epsilon < math.inf):
            raise ValueError(
                f"the scale step must lie between 0 and 1 and epsilon not below 0, got {self.scale_step:g} and {self.epsilon:g}"
            )
        counts = (self.scales, self.warps, self.inner_iterations, self.outer_iterations)
        if min(counts) < 1:
            raise ValueError(f"scales, warps and iterations must be 1 at least, got {counts}")
        if self.median not in (0, 1, 3, 5):
            raise ValueError(f"the median's window must be 3 or 5, or 0 for none, got {self.median}")

    def scale_sizes(self, height: int, width: int) -> list[tuple[int, int]]:
        """Sizes (height, width) of the scales for frames of this size, finest first."""
        sizes = [(height, width)]
        while len(sizes) < self.scales:
            height, width = round(height * self.scale_step), round(width * self.scale_step)  # halves to even, as in OpenCV
            if min(height, width) < LEAST_SIDE:
                break
            sizes.append((height, width))
        return sizes


# cv2.cuda.OpticalFlowDual_TVL1's defaults (OpenCV 3 and later), which DeepMind's I3D names and most published flow features
# were made with (denseflow); the first dense_flow, of TSN, used OpenCV 2.4's, whose scales are halved
OPENCV_CUDA_PARAMS = TVL1Params(inner_iterations=300, outer_iterations=1, median=0)
PRESETS: dict[str, TVL1Params] = {"opencv": TVL1Params(), "opencv-cuda": OPENCV_CUDA_PARAMS}


class FlowBackend(Protocol):
    """Flow of a stream of frames that have one size."""

    def push(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Flow [N, H, W, 2] to each of these frames [T, H, W] from the one before, which may have come with an earlier push.

        N is T, or T - 1 where nothing came before.
        """


@dataclass(frozen=True, kw_only=True)
class FlowOptions:
    """What a backend is made with: ``threads`` and ``device`` where it has a use for them."""

    params: TVL1Params
    device: str
    threads: int
    hook: Hook


def _opencv_cuda(options: FlowOptions) -> FlowBackend:
    from tal_run.extractors.flow_opencv import OpenCVCudaFlow

    return OpenCVCudaFlow(options)


def _torch(options: FlowOptions) -> FlowBackend:
    from tal_run.extractors.flow_torch import TorchFlow

    return TorchFlow(options)


def _numba(options: FlowOptions) -> FlowBackend:
    from tal_run.extractors.flow_numba import NumbaFlow

    return NumbaFlow(options)


def _opencv(options: FlowOptions) -> FlowBackend:
    from tal_run.extractors.flow_opencv import OpenCVFlow

    return OpenCVFlow(options)


# each loads its libraries when it is asked for
BACKENDS: dict[str, Callable[[FlowOptions], FlowBackend]] = {
    "opencv-cuda": _opencv_cuda,
    "torch": _torch,
    "numba": _numba,
    "opencv": _opencv,
}


class FlowStream:
    """Flow of a video that comes in chunks: it keeps what it needs of the last frame, and memory does not grow.

    Args:
        backend: one of ``BACKENDS``, or ``auto``: what suits the device best; the choice is logged.
        params: TV-L1's parameters.
        device: ``cpu``, or the GPU on which ``auto`` and ``torch`` may work (``cuda``, ``cuda:1``).
        threads: pairs computed at a time (numba) or OpenCV's threads; None: as many as this process may use cores.
        hook: told of the compilation, which the first flow on a machine waits for.

    Raises:
        FlowError: there is no such backend, or not on this machine.
    """

    def __init__(
        self,
        *,
        backend: str = AUTO,
        params: TVL1Params | None = None,
        device: str = "cpu",
        threads: int | None = None,
        hook: Hook = ignore_progress,
    ) -> None:
        if threads is not None and threads < 1:
            raise ValueError(f"threads must be 1 at least, got {threads}")
        self._options = FlowOptions(params=params or TVL1Params(), device=device, threads=threads or usable_cores(), hook=hook)
        self.backend = best_backend(backend, params=self._options.params, device=device)
        logger.info("optical flow: backend %s, device %s, %d threads", self.backend, device, self._options.threads)
        self._implementation = BACKENDS[self.backend](self._options)
        self._size: tuple[int, int] | None = None

    def push(self, frames: ArrayLike) -> NDArray[np.float32]:
        """Flow to each of the next frames from the one before it.

        Args:
            frames: grey, uint8 [T, H, W]; T may be 0.

        Returns:
            Float32 [N, H, W, 2], pixels per frame, x to the right and y downwards. N is T, or T - 1 for the first frames.

        Raises:
            ValueError: not grey frames, or of another size than those before.
        """
        grey = _checked(frames)
        size = grey.shape[1:]
        if self._size not in (None, size):
            raise ValueError(f"all frames of a stream must have one size, got {size} after {self._size}: begin a new stream")
        if not len(grey):
            return np.empty((0, *size, 2), np.float32)
        self._size = size
        return self._implementation.push(grey)


def tvl1_flow(
    frames: ArrayLike,
    *,
    backend: str = AUTO,
    params: TVL1Params | None = None,
    device: str = "cpu",
    threads: int | None = None,
    hook: Hook = ignore_progress,
) -> NDArray[np.float32]:
    """Flow from each frame to the next.

    Args:
        frames: grey, uint8 [T, H, W]. ``FlowStream`` takes videos chunk by chunk.
        backend: one of ``BACKENDS``, or ``auto``.
        params: TV-L1's parameters; None: OpenCV's for CPUs.
        device: ``cpu``, or the GPU on which ``auto`` and ``torch`` may work.
        threads: None: as many as this process may use cores.
        hook: told of compilation.

    Returns:
        Float32 [T - 1, H, W, 2], pixels per frame, x to the right and y downwards; none for fewer than two frames.

    Raises:
        FlowError: there is no such backend, or not on this machine.
        ValueError: not grey frames.
    """
    grey = _checked(frames)
    if len(grey) < 2:
        return np.empty((0, *grey.shape[1:], 2), np.float32)
    return FlowStream(backend=backend, params=params, device=device, threads=threads, hook=hook).push(grey)


def quantize(flow: ArrayLike, *, jpeg: bool = False) -> NDArray[np.float32]:
    """Flow as networks take it: clipped to ±20 pixels and scaled to [-1, 1].

    Args:
        flow: pixels per frame, any shape.
        jpeg: take the way over 8-bit pictures, as features did that were made of stored ones: steps of 40 / 255 pixels,
            of which none is 0 (a still picture becomes +0.0039).
    """
    if jpeg:
        return from_uint8(to_uint8(flow))
    return np.clip(np.asarray(flow, np.float32), -BOUND, BOUND) / np.float32(BOUND)


def to_uint8(flow: ArrayLike) -> NDArray[np.uint8]:
    """Flow in pixels per frame as 8-bit pictures: round((f + 20) / 40 * 255), halves to even."""
    clipped = np.clip(np.asarray(flow, np.float32), -BOUND, BOUND)
    pictures: NDArray[np.uint8] = np.rint((clipped + np.float32(BOUND)) / np.float32(2 * BOUND) * np.float32(255)).astype(
        np.uint8
    )
    return pictures


def from_uint8(pictures: ArrayLike) -> NDArray[np.float32]:
    """8-bit flow pictures as networks take them, in [-1, 1]: value * 2 / 255 - 1."""
    return np.asarray(pictures, np.uint8) * np.float32(2 / 255) - np.float32(1)


def usable_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def best_backend(name: str, *, params: TVL1Params, device: str) -> str:
    """The backend of that name; for ``auto``, what suits the device best.

    Raises:
        FlowError: there is no backend of that name, or it is OpenCV's for GPUs and not on this machine.
    """
    if name != AUTO and name not in BACKENDS:
        raise FlowError(f"there is no flow backend {name!r}: {choices(name, (AUTO, *BACKENDS))}")
    if name == "opencv-cuda":
        from tal_run.extractors.flow_opencv import require_cuda

        require_cuda()
    if name != AUTO:
        return name
    if device == "cpu":
        return "numba"
    from tal_run.extractors.flow_opencv import has_cuda

    # the CUDA version has no median, so it serves only where none is asked for
    return "opencv-cuda" if has_cuda() and params.median <= 1 else "torch"


def _checked(frames: ArrayLike) -> NDArray[np.uint8]:
    array = np.asarray(frames)
    if array.dtype != np.uint8:
        raise ValueError(f"frames must be uint8, got {array.dtype}: convert them to grey levels 0..255 first")
    if array.ndim != 3:
        raise ValueError(f"frames must be grey, [T, H, W], got shape {array.shape}: convert colours to grey first")
    if 0 in array.shape[1:]:
        raise ValueError(f"frames must have pixels, got shape {array.shape}")
    return array
