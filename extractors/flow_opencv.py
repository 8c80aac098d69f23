"""TV-L1 by OpenCV: ``cv2.optflow`` on the CPU, the reference, and ``cv2.cuda`` where OpenCV was built with it.

Neither keeps pyramids from one pair to the next; here, the last frame is kept.
"""

from __future__ import annotations

import logging
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from tal_run.extractors.flow import FlowError, FlowOptions

logger = logging.getLogger(__name__)

LEAST_SIDE = 3  # cv2.optflow reads beside the picture if it is smaller


class OpenCVFlow:
    """``cv2.optflow.DualTVL1OpticalFlow``, one pair after the other on OpenCV's threads."""

    def __init__(self, options: FlowOptions) -> None:
        import cv2

        if not hasattr(cv2, "optflow"):
            raise FlowError(
                f"OpenCV {cv2.__version__} has no module optflow: install opencv-contrib-python-headless or use another backend"
            )
        self._params, self._threads = options.params, options.threads
        self._last: NDArray[np.uint8] | None = None

    def push(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Flow to each frame of [T, H, W] from the one before."""
        import cv2

        before = cv2.getNumThreads()  # of the whole process
        cv2.setNumThreads(self._threads)
        try:
            return self._flow(frames)
        finally:
            cv2.setNumThreads(before)

    def _flow(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        estimator = self._estimator()
        height, width = frames.shape[1:]
        padding = ((0, max(0, LEAST_SIDE - height)), (0, max(0, LEAST_SIDE - width)))
        flow = np.empty((len(frames) - (self._last is None), height, width, 2), np.float32)
        written = 0
        for frame in frames:
            padded = np.pad(frame, padding, mode="edge")
            if self._last is not None:
                flow[written] = estimator.calc(self._last, padded, None)[:height, :width]
                written += 1
            self._last = padded
        return flow

    def _estimator(self) -> Any:
        # a new one for each push: one that saw a small frame never uses more scales again
        import cv2

        params, module = self._params, cast(Any, cv2.optflow)  # its stubs leave this out
        return module.DualTVL1OpticalFlow_create(
            tau=params.tau,
            lambda_=params.lambda_,
            theta=params.theta,
            nscales=params.scales,
            warps=params.warps,
            epsilon=params.epsilon,
            innnerIterations=params.inner_iterations,
            outerIterations=params.outer_iterations,
            scaleStep=params.scale_step,
            gamma=0.0,
            medianFiltering=max(1, params.median),
        )


class OpenCVCudaFlow:
    """``cv2.cuda.OpticalFlowDual_TVL1``, pair by pair on OpenCV's current CUDA device."""

    def __init__(self, options: FlowOptions) -> None:
        import cv2

        require_cuda()
        params = options.params
        if params.median > 1:
            logger.info("optical flow: opencv-cuda has no median filter, the one asked for is left out")
        cuda: Any = cv2.cuda
        # tau, lambda, theta, scales, warps, epsilon, iterations, scale step, gamma, whether to start from the flow given
        self._estimator = cuda.OpticalFlowDual_TVL1.create(
            params.tau,
            params.lambda_,
            params.theta,
            params.scales,
            params.warps,
            params.epsilon,
            params.inner_iterations * params.outer_iterations,
            params.scale_step,
            0.0,
            False,
        )
        self._new_matrix = cuda.GpuMat
        self._last: Any = None

    def push(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Flow to each frame of [T, H, W] from the one before."""
        flow = np.empty((len(frames) - (self._last is None), *frames.shape[1:], 2), np.float32)
        written = 0
        for frame in frames:
            matrix = self._new_matrix()
            matrix.upload(np.ascontiguousarray(frame))
            if self._last is not None:
                flow[written] = self._estimator.calc(self._last, matrix, None).download()
                written += 1
            self._last = matrix
        return flow


def require_cuda() -> None:
    """Refuse a machine whose OpenCV cannot compute TV-L1 on a GPU.

    Raises:
        FlowError: it cannot.
    """
    if has_cuda():
        return
    import cv2

    raise FlowError(
        f"OpenCV {cv2.__version__} on this machine has no CUDA flow (the wheels of PyPI have none): "
        "build OpenCV with CUDA and its contributed modules, or use the backend torch"
    )


def has_cuda() -> bool:
    """Whether this OpenCV can compute TV-L1 on a GPU that is there."""
    try:
        import cv2
    except ImportError:
        return False
    cuda: Any = getattr(cv2, "cuda", None)
    return hasattr(cuda, "OpticalFlowDual_TVL1") and cuda.getCudaEnabledDeviceCount() > 0
