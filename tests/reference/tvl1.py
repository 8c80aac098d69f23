"""TV-L1 as the papers and OpenCV have it, in double precision, one equation a line and nothing fused."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass
class Parameters:
    tau: float = 0.25
    lambda_: float = 0.15
    theta: float = 0.3
    scale_step: float = 0.8
    warps: int = 5
    epsilon: float = 0.01
    inner: int = 30
    outer: int = 10
    median: int = 5


@dataclass
class State:
    """u [2, H, W] and p [2, 2, H, W]: of each component of u, along x and y."""

    u: Array
    p: Array = field(default_factory=lambda: np.empty(0))


def pair_flow(first: Array, second: Array, sizes: list[tuple[int, int]], parameters: Parameters) -> tuple[Array, list[int]]:
    """Flow [H, W, 2] between two pictures, and the iterations of every warp, coarsest scale first."""
    pyramid = [(first, second)]
    for size in sizes[1:]:
        pyramid.append(tuple(zoom(picture, size, 1 / parameters.scale_step) for picture in pyramid[-1]))  # type: ignore[arg-type]
    u = np.zeros((2, *sizes[-1]))
    counts: list[int] = []
    for scale in range(len(sizes) - 1, -1, -1):
        i0, i1 = pyramid[scale]
        state = State(u, np.zeros((2, 2, *sizes[scale])))
        for _ in range(parameters.warps):
            counts.append(warp_and_relax(i0, i1, state, parameters))
        u = state.u
        if scale:
            u = np.stack([zoom(component, sizes[scale - 1]) for component in u]) / parameters.scale_step
    return np.moveaxis(u, 0, -1), counts


def warp_and_relax(i0: Array, i1: Array, state: State, parameters: Parameters) -> int:
    gradient, rho_c = linearise(i0, i1, state.u)
    error, count = np.inf, 0
    limit = parameters.epsilon**2 * i0.size
    for _ in range(parameters.outer):
        if error <= limit:
            break
        if parameters.median > 1:
            state.u = np.stack([median(component, parameters.median) for component in state.u])
        for _ in range(parameters.inner):
            if error <= limit:
                break
            error = iterate(state, gradient, rho_c, parameters)
            count += 1
    return count


def linearise(i0: Array, i1: Array, u: Array) -> tuple[Array, Array]:
    """Gradient of the warped second picture [2, H, W], and rho less its part in u [H, W]."""
    height, width = i1.shape
    padded = np.pad(i1, 1, mode="edge")
    i1_x = (padded[1:-1, 2:] - padded[1:-1, :-2]) / 2
    i1_y = (padded[2:, 1:-1] - padded[:-2, 1:-1]) / 2
    y, x = np.mgrid[:height, :width]
    warped, warped_x, warped_y = (read(picture, y + u[1], x + u[0]) for picture in (i1, i1_x, i1_y))
    return np.stack([warped_x, warped_y]), warped - warped_x * u[0] - warped_y * u[1] - i0


def iterate(state: State, gradient: Array, rho_c: Array, parameters: Parameters) -> float:
    """One iteration, in place. Returns the sum of the squares of u's change."""
    l_t, step = parameters.lambda_ * parameters.theta, parameters.tau / parameters.theta
    u, p = state.u, state.p
    square = (gradient**2).sum(axis=0)
    rho = rho_c + (gradient * u).sum(axis=0)
    v = u.copy()
    for y, x in np.ndindex(*rho.shape):
        if rho[y, x] < -l_t * square[y, x]:
            v[:, y, x] += l_t * gradient[:, y, x]
        elif rho[y, x] > l_t * square[y, x]:
            v[:, y, x] -= l_t * gradient[:, y, x]
        elif square[y, x] > np.finfo(np.float32).eps:
            v[:, y, x] -= rho[y, x] / square[y, x] * gradient[:, y, x]
    new = np.stack([v[i] + parameters.theta * divergence(p[i]) for i in (0, 1)])
    error = float(((new - u) ** 2).sum())
    for i in (0, 1):
        slope = forward_gradient(new[i])
        p[i] = (p[i] + step * slope) / (1 + step * np.hypot(*slope))
    state.u = new
    return error


def divergence(p: Array) -> Array:
    """Backward differences, p being zero before the first row and column."""
    return np.diff(p[0], axis=1, prepend=0) + np.diff(p[1], axis=0, prepend=0)


def forward_gradient(u: Array) -> Array:
    """Zero behind the last row and column."""
    return np.stack([np.diff(u, axis=1, append=u[:, -1:]), np.diff(u, axis=0, append=u[-1:])])


def read(picture: Array, y: Array, x: Array) -> Array:
    """Bicubic (Keys 1981, a = -0.75), zeros outside."""
    height, width = picture.shape
    top, left = np.floor(y).astype(int), np.floor(x).astype(int)
    total = np.zeros(y.shape)
    for dy in range(-1, 3):
        for dx in range(-1, 3):
            row, column = top + dy, left + dx
            inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
            value = np.where(inside, picture[row.clip(0, height - 1), column.clip(0, width - 1)], 0)
            total += value * keys(y - row) * keys(x - column)
    return total


def keys(distance: Array, a: float = -0.75) -> Array:
    d = np.abs(distance)
    near = (a + 2) * d**3 - (a + 3) * d**2 + 1
    far = a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a
    return np.where(d <= 1, near, np.where(d < 2, far, 0))


def median(picture: Array, side: int) -> Array:
    padded = np.pad(picture, side // 2, mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (side, side))
    return np.median(windows, axis=(2, 3))


def zoom(picture: Array, size: tuple[int, int], step: float | None = None) -> Array:
    """Bilinear, pixel centres at halves; ``step`` source pixels to a pixel, or as many as fit."""
    for axis in (0, 1):
        count, side = size[axis], picture.shape[axis]
        places = (np.arange(count) + 0.5) * (step or side / count) - 0.5
        picture = np.apply_along_axis(lambda line, at=places, n=side: np.interp(at, np.arange(n), line), axis, picture)
    return picture
