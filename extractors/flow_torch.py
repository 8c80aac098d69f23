"""TV-L1 in batches of pairs by torch: for GPUs, and for any device that torch knows.

The same algorithm as everywhere (``flow``). What is different from the CPU's:

- Pairs of a batch go through the iterations together; each has its own stopping rule, and a pair that has stopped is held
  by a mask. Only after ``inner_iterations`` of them a GPU is asked whether all have stopped: there is no waiting for an
  answer in between.
- On CUDA these iterations are recorded once for each scale, as a CUDA graph, and played from then on: forty small
  kernels an iteration cost more to start than to run.
- ``grid_sample`` reads between pixels with the same cubic (a = -0.75) and the same zeros outside as OpenCV's remap.
- A batch is always filled, with black pairs if need be (they stop at once), so that buffers and graphs can be used again.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from tal_run.extractors.flow import FlowError, FlowOptions, TVL1Params
from tal_run.extractors.flow_networks import MEDIAN_NETWORKS, MIDDLE_WIRES, SORT_NETWORKS

# Pixels in a batch on a GPU: 34 pairs of 340 x 256, about 1 GB with everything.
BATCH_PIXELS = 3_000_000
FLAT = torch.finfo(torch.float32).eps  # as in flow_kernels

Pyramid = list[Tensor]  # [N, H, W] of each scale, finest first


class TorchFlow:
    """TV-L1 on a device of torch's.

    Args:
        options: parameters and device; threads are torch's own affair.
        batch: pairs at a time; None: one on a CPU (the next fits its cache better), as many as fill a GPU.

    Raises:
        FlowError: there is no such device.
    """

    def __init__(self, options: FlowOptions, *, batch: int | None = None) -> None:
        try:
            self._device = torch.device(options.device)
            torch.empty(0, device=self._device)
        except (RuntimeError, AssertionError) as error:
            raise FlowError(f"torch has no device {options.device!r} here ({error}): use device cpu") from error
        self._params, self._batch = options.params, batch
        self._solver: _Solver | None = None
        self._last: Pyramid | None = None

    @torch.inference_mode()
    def push(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Flow to each frame of [T, H, W] from the one before."""
        height, width = frames.shape[1:]
        if self._solver is None:
            fitting = max(1, BATCH_PIXELS // (height * width)) if self._device.type != "cpu" else 1
            self._solver = _Solver(height, width, params=self._params, batch=self._batch or fitting, device=self._device)
        batch = self._solver.batch
        flow = np.empty((len(frames) - (self._last is None), height, width, 2), np.float32)
        written = 0
        for start in range(0, len(frames), batch):
            chunk = torch.from_numpy(np.array(frames[start : start + batch])).to(self._device)
            pyramid = self._solver.pyramid(chunk.float())
            if self._last is not None:
                pyramid = [torch.cat(pair) for pair in zip(self._last, pyramid, strict=True)]
            self._last = [scale[-1:].clone() for scale in pyramid]
            pairs = len(pyramid[0]) - 1
            if pairs:
                flow[written : written + pairs] = self._solver.solve(pyramid).cpu().numpy()
                written += pairs
        return flow


class _Solver:
    """Pairs of frames of one size, at most ``batch`` at a time."""

    def __init__(self, height: int, width: int, *, params: TVL1Params, batch: int, device: torch.device) -> None:
        self.batch = batch
        self._params = params
        self._sizes = params.scale_sizes(height, width)
        self._scales = [_Scale(size, params=params, batch=batch, device=device) for size in self._sizes]

    def pyramid(self, frames: Tensor) -> Pyramid:
        """Frames [N, H, W] at all scales."""
        pyramid = [frames]
        step = 1 / self._params.scale_step
        for size in self._sizes[1:]:
            pyramid.append(resize(pyramid[-1], size, (step, step)))
        return pyramid

    def solve(self, pyramid: Pyramid) -> Tensor:
        """Flow [N, H, W, 2] from each frame to the next of the N + 1 in the pyramid, N at most ``batch``."""
        pairs = len(pyramid[0]) - 1
        finest = pyramid[0]
        # rounding in grid_sample would have still pictures move by thousandths of a pixel
        moved = (finest[:-1] != finest[1:]).flatten(1).any(dim=1)
        u: Tensor | None = None
        for scale, pictures in zip(reversed(self._scales), reversed(pyramid), strict=True):
            if u is not None:
                steps = (u.shape[2] / pictures.shape[1], u.shape[3] / pictures.shape[2])
                u = resize(u, (pictures.shape[1], pictures.shape[2]), steps) / self._params.scale_step
            missing = (0, 0, 0, 0, 0, self.batch - pairs)
            u = scale.solve(F.pad(pictures[:-1], missing), F.pad(pictures[1:], missing), u)
        assert u is not None
        return torch.where(moved[:, None, None, None], u[:pairs], 0).permute(0, 2, 3, 1)


class _Scale:
    """Warps and iterations at one scale, in buffers that are used again."""

    def __init__(self, size: tuple[int, int], *, params: TVL1Params, batch: int, device: torch.device) -> None:
        height, width = size
        self._params = params
        self._limit = params.epsilon**2 * height * width
        self._u = torch.zeros(batch, 2, height, width, device=device)
        self._p = torch.zeros(batch, 2, 2, height, width, device=device)  # [B, component of u, axis, H, W]
        self._gradient = torch.zeros(batch, 2, height, width, device=device)  # of I1, warped
        self._inverse = torch.zeros(batch, 1, height, width, device=device)  # 1 / |gradient|^2
        self._rho = torch.zeros(batch, 1, height, width, device=device)  # its constant part
        self._active = torch.ones(batch, dtype=torch.bool, device=device)
        y, x = torch.meshgrid(torch.arange(height, device=device), torch.arange(width, device=device), indexing="ij")
        self._pixels = torch.stack([x, y]).float()  # [2, H, W]
        self._ends = torch.tensor([width, height], device=device)[:, None, None]
        self._graph = None if device.type != "cuda" else self._recorded()

    def solve(self, first: Tensor, second: Tensor, u: Tensor | None) -> Tensor:
        """Flow [B, 2, H, W] from pictures [B, H, W] to others, beginning with u or with none."""
        self._p.zero_()
        if u is None:
            self._u.zero_()
        else:
            self._u.copy_(u)
        channels = torch.cat([second[:, None], centred_gradient(second)], dim=1)  # [B, 3, H, W]
        for _ in range(self._params.warps):
            self._warp(first, channels)
            self._active.fill_(True)
            for _ in range(self._params.outer_iterations):
                self._iterate()
                if not self._active.any():  # the one question to the device
                    break
        return self._u

    def _warp(self, first: Tensor, channels: Tensor) -> None:
        grid = (2 * (self._pixels + self._u) + 1) / self._ends - 1  # pixel centres in -1..1
        found = F.grid_sample(channels, grid.permute(0, 2, 3, 1), mode="bicubic", padding_mode="zeros", align_corners=False)
        self._gradient.copy_(found[:, 1:])
        square = self._gradient.square().sum(dim=1, keepdim=True)
        self._inverse.copy_(torch.where(square > FLAT, 1 / square.clamp(min=FLAT), 0.0))
        self._rho.copy_(found[:, :1] - (self._gradient * self._u).sum(dim=1, keepdim=True) - first[:, None])

    def _iterate(self) -> None:
        """One outer iteration."""
        if self._graph is not None:
            self._graph.replay()
        else:
            self._outer_iteration()

    def _outer_iteration(self) -> None:
        if self._params.median > 1:
            self._u.copy_(torch.where(self._active[:, None, None, None], median_filter(self._u, self._params.median), self._u))
        asking_is_free = self._u.device.type == "cpu"
        for _ in range(self._params.inner_iterations):
            self._inner_iteration()
            if asking_is_free and not self._active.any():
                break

    def _inner_iteration(self) -> None:
        params = self._params
        step = params.tau / params.theta
        active = self._active[:, None, None, None]
        rho = self._rho + (self._gradient * self._u).sum(dim=1, keepdim=True)
        threshold = params.lambda_ * params.theta
        quotient = (rho * self._inverse).clamp(-threshold, threshold)
        change = params.theta * divergence(self._p) - quotient * self._gradient  # V and U
        error = change.square().sum(dim=(1, 2, 3))  # [B]
        self._u += change * active
        gradient = forward_gradient(self._u)
        norm = gradient.square().sum(dim=2, keepdim=True).sqrt()
        p = (self._p + step * gradient) / (1 + step * norm)  # P
        self._p.copy_(torch.where(active[..., None], p, self._p))
        self._active &= error > self._limit

    def _recorded(self) -> torch.cuda.CUDAGraph:
        """An outer iteration as a CUDA graph. Recording wants a first run on a stream of its own."""
        stream = torch.cuda.Stream(self._u.device)  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream(self._u.device))
        with torch.cuda.stream(stream):
            self._outer_iteration()
        torch.cuda.current_stream(self._u.device).wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.device(self._u.device), torch.cuda.graph(graph):
            self._outer_iteration()
        return graph


def divergence(p: Tensor) -> Tensor:
    """Backward differences [B, 2, H, W] of p [B, 2, 2, H, W], p being zero before the first row and column."""
    along_x, along_y = p.unbind(dim=2)
    return torch.diff(F.pad(along_x, (1, 0)), dim=-1) + torch.diff(F.pad(along_y, (0, 0, 1, 0)), dim=-2)


def forward_gradient(u: Tensor) -> Tensor:
    """Forward differences [B, 2, 2, H, W] of u [B, 2, H, W]: of each component along x and y, zero over the border."""
    along_x = F.pad(torch.diff(u, dim=-1), (0, 1))
    along_y = F.pad(torch.diff(u, dim=-2), (0, 0, 0, 1))
    return torch.stack([along_x, along_y], dim=2)


def centred_gradient(pictures: Tensor) -> Tensor:
    """Half the differences of both neighbours [B, 2, H, W], borders of the pictures [B, H, W] repeated."""
    padded = F.pad(pictures[:, None], (1, 1, 1, 1), mode="replicate")[:, 0]
    along_x = padded[:, 1:-1, 2:] - padded[:, 1:-1, :-2]
    along_y = padded[:, 2:, 1:-1] - padded[:, :-2, 1:-1]
    return torch.stack([along_x, along_y], dim=1) / 2


def resize(pictures: Tensor, size: tuple[int, int], steps: tuple[float, float]) -> Tensor:
    """Bilinear, as OpenCV's: pixel centres at halves, ``steps`` source pixels to a target pixel, borders repeated."""
    for axis, target, step in ((-2, size[0], steps[0]), (-1, size[1], steps[1])):
        last = pictures.shape[axis] - 1
        places = ((torch.arange(target, dtype=torch.float64, device=pictures.device) + 0.5) * step - 0.5).clamp(0, last)
        before = places.floor().clamp(max=max(0, last - 1)).long()
        beside = (places - before).float().reshape(-1, *([1] * (-1 - axis)))
        behind = (before + 1).clamp(max=last)
        pictures = pictures.index_select(axis, before) * (1 - beside) + pictures.index_select(axis, behind) * beside
    return pictures


def median_filter(u: Tensor, side: int) -> Tensor:
    """Median of each side x side window (3 or 5) of [B, 2, H, W], borders repeated."""
    height, width = u.shape[-2:]
    padded = F.pad(u, (side // 2,) * 4, mode="replicate")
    columns = [padded[..., row : row + height, :] for row in range(side)]
    columns = _exchanged(columns, SORT_NETWORKS[side])
    window = [column[..., start : start + width] for column in columns for start in range(side)]
    return _exchanged(window, MEDIAN_NETWORKS[side])[MIDDLE_WIRES[side]]


def _exchanged(values: list[Tensor], network: list[tuple[int, int]]) -> list[Tensor]:
    for i, j in network:
        values[i], values[j] = torch.minimum(values[i], values[j]), torch.maximum(values[i], values[j])
    return values
