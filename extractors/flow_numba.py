"""TV-L1 for CPUs: the same flow as OpenCV's, many times as fast.

OpenCV writes v, div p and the gradients of u to memory between its loops and takes the norm of each gradient in double
precision, one pixel at a time. Here:

- an iteration is one pass over a row: v, div p and the gradients never leave the registers; single precision, sixteen
  pixels at a time;
- iterations follow each other row by row in one sweep (``flow_kernels.iterate``), so that what one has written the next
  finds in cache;
- I1 and its two gradients are read between pixels together, and the median of u is a sorting network over whole rows;
- pairs are computed in parallel, each thread in memory of its own that is used again. Each frame's pyramid is made once.

The stopping rule is OpenCV's. It is asked after each iteration, but the iterations of one sweep are done by then. Sweeps
become short where the error comes near the threshold, so few are done in vain, and the flow differs from OpenCV's by a
hundredth of a pixel on average; without a stopping rule (``epsilon=0``), by a millionth. Results do not depend on the
number of threads nor on how frames are cut into chunks. OpenCV before version 5 reads between pixels at 32 places only.

Memory: about 100 bytes a pixel and thread.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tal_run.extractors import flow_kernels as kernels
from tal_run.extractors.flow import FlowOptions, TVL1Params
from tal_run.extractors.hooks import Hook

logger = logging.getLogger(__name__)

Pyramid = NDArray[np.float32]
COMPILING = "compile optical flow"


class NumbaFlow:
    """TV-L1 by ``flow_kernels`` on as many threads as told."""

    def __init__(self, options: FlowOptions) -> None:
        self._params, self._threads = options.params, options.threads
        self._pool = ThreadPoolExecutor(options.threads, thread_name_prefix="tvl1")
        self._solver: _Solver | None = None
        self._last: Future[Pyramid] | None = None
        _compile_once(options.hook)

    def push(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Flow to each frame of [T, H, W] from the one before."""
        height, width = frames.shape[1:]
        if self._solver is None:
            self._solver = _Solver(height, width, params=self._params, workers=self._threads)
        flow = np.empty((len(frames) - (self._last is None), height, width, 2), np.float32)
        pending: deque[Future[None]] = deque()
        written = 0
        for frame in frames:
            # tasks start in this order, so a pair never waits for a pyramid that nobody has begun
            pyramid = self._pool.submit(self._solver.pyramid, frame)
            if self._last is not None:
                pending.append(self._pool.submit(self._solver.solve, self._last, pyramid, flow[written]))
                written += 1
            self._last = pyramid
            if len(pending) > 2 * self._threads:  # few pyramids at a time, however long the chunk
                pending.popleft().result()
        for task in pending:
            task.result()
        return flow


@dataclass(frozen=True)
class _Memory:
    """What one pair needs while it is computed, as ``solve_pair`` wants it."""

    planes: NDArray[np.float32]  # [PLANES, N]
    coarse: NDArray[np.float32]  # [2, H * W], u of the scale before
    channels: NDArray[np.float32]  # I1 and its gradients with a border, flat
    places: NDArray[np.int32]
    weights: NDArray[np.float32]
    found: NDArray[np.float32]
    columns: NDArray[np.float32]  # [5, N], sorted, for the median
    errors: NDArray[np.float32]

    @classmethod
    def of(cls, height: int, width: int) -> _Memory:
        spare = 2 * kernels.LANES  # vectors may reach behind the last row
        stride = kernels.row_stride(width)
        border = 2 * kernels.BORDER
        return cls(
            planes=np.zeros((kernels.PLANES, (height + 3) * stride + spare), np.float32),
            coarse=np.zeros((2, height * width), np.float32),
            channels=np.zeros(((height + border) * (width + border)) * kernels.CHANNELS + spare, np.float32),
            places=np.zeros((2, width + spare), np.int32),
            weights=np.zeros((2, 4 * (width + spare)), np.float32),
            found=np.zeros((1, 4 * (width + spare)), np.float32),
            columns=np.zeros((5, stride + spare), np.float32),
            errors=np.zeros(kernels.SWEEP, np.float32),
        )

    def as_tuple(self) -> tuple[NDArray[np.float32] | NDArray[np.int32], ...]:
        return tuple(vars(self).values())


class _Solver:
    """Pyramids and pairs of frames of one size."""

    def __init__(self, height: int, width: int, *, params: TVL1Params, workers: int) -> None:
        self._scale_step = params.scale_step
        self._sizes = np.array(params.scale_sizes(height, width), np.int64)
        self._settings = (
            np.float32(params.theta),
            np.float32(params.tau / params.theta),
            np.float32(params.lambda_ * params.theta),
            float(params.epsilon) ** 2,
            params.inner_iterations,
            params.outer_iterations,
            params.median,
            params.warps,
            1 / float(params.scale_step),
        )
        self._free: queue.SimpleQueue[_Memory] = queue.SimpleQueue()
        for _ in range(workers):
            self._free.put(_Memory.of(height, width))

    def pyramid(self, frame: NDArray[np.uint8]) -> Pyramid:
        """A frame [H, W] at all scales, finest first, flat [1, N]."""
        pyramid = np.zeros((1, int(self._sizes.prod(axis=1).sum()) + kernels.LANES), np.float32)
        pyramid[0, : frame.size] = frame.reshape(-1)
        kernels.shrink(pyramid[0], self._sizes, float(self._scale_step))
        return pyramid

    def solve(self, first: Future[Pyramid], second: Future[Pyramid], flow: NDArray[np.float32]) -> None:
        """Write the flow [H, W, 2] between two frames."""
        self.iterations(first.result(), second.result(), flow)

    def iterations(self, first: Pyramid, second: Pyramid, flow: NDArray[np.float32]) -> NDArray[np.int64]:
        """Write the flow [H, W, 2], and say how many iterations each warp took [scales, warps]."""
        counts = np.zeros((len(self._sizes), self._settings[7]), np.int64)
        if np.array_equal(first, second):  # as all iterations would find
            flow[...] = 0
            return counts
        memory = self._free.get()
        try:
            kernels.solve_pair(first, second, self._sizes, self._settings, memory.as_tuple(), flow, counts)
        finally:
            self._free.put(memory)
        return counts


_compile_lock = threading.Lock()


def _compile_once(hook: Hook) -> None:
    """Compile, or read from the cache, what the first pair would have to wait for; say so beforehand."""
    with _compile_lock:
        if kernels.solve_pair.signatures:
            return
        hook(COMPILING, completed=0, total=1)
        began = time.perf_counter()
        solver = _Solver(1, 1, params=TVL1Params(), workers=1)
        black, white = (solver.pyramid(np.full((1, 1), level, np.uint8)) for level in (0, 255))
        solver.iterations(black, white, np.empty((1, 1, 2), np.float32))
        hook(COMPILING, completed=1, total=1)
        took_s = time.perf_counter() - began
        if kernels.solve_pair.stats.cache_hits:
            logger.info("optical flow: read the compiled kernels in %.1f s", took_s)
        else:
            kept = kernels.solve_pair.stats.cache_path or "memory only: no folder for a cache can be written to"
            logger.info("optical flow: compiled the kernels for this CPU in %.1f s, kept in %s", took_s, kept)
