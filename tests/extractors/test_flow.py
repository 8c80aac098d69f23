"""TV-L1 flow: known motion, a slow reference, OpenCV's flow, and what must not change it."""

from __future__ import annotations

import importlib.util
import itertools
import logging
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tal_run.extractors import flow as flow_module
from tal_run.extractors import flow_kernels as kernels
from tal_run.extractors import flow_numba, flow_opencv
from tal_run.extractors.flow import (
    BACKENDS,
    OPENCV_CUDA_PARAMS,
    PRESETS,
    FlowError,
    FlowOptions,
    FlowStream,
    TVL1Params,
    from_uint8,
    quantize,
    to_uint8,
    tvl1_flow,
)
from tal_run.extractors.flow_networks import MEDIAN_NETWORKS, MIDDLE_WIRES, SORT_NETWORKS
from tal_run.extractors.flow_torch import TorchFlow
from tal_run.extractors.hooks import ignore_progress

Frames = NDArray[np.uint8]
Flow = NDArray[np.float32]

SHARED = Path(__file__).parents[3] / "shared"
HERE = ["numba", "torch", "opencv"]  # what every machine has
# Without a stopping rule all backends do the same number of iterations, so that their flows can be compared closely.
NEVER_STOPPING = TVL1Params(scales=3, warps=2, inner_iterations=8, outer_iterations=2, epsilon=0.0)


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """For frames as small as these, torch's threads wait longer for each other than they work."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def reference() -> ModuleType:
    path = Path(__file__).parents[1] / "reference" / "tvl1.py"
    spec = importlib.util.spec_from_file_location("reference_tvl1", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def texture(x: NDArray[Any], y: NDArray[Any], seed: int = 0) -> NDArray[np.float64]:
    """A picture without grid or edges, of waves 6 to 40 pixels long: it can be looked at anywhere between pixels."""
    dice = np.random.default_rng(seed)
    total = np.zeros(np.broadcast_shapes(x.shape, y.shape))
    for length in np.geomspace(6, 40, 14):
        angle, phase = dice.uniform(0, 2 * np.pi, 2)
        total += np.sqrt(length) * np.cos(2 * np.pi / length * (np.cos(angle) * x + np.sin(angle) * y) + phase)
    return 128 + 8 * total


def moving(motion: Callable[[Any, Any], tuple[Any, Any]], *, size: tuple[int, int], count: int = 2) -> tuple[Frames, Flow]:
    """Frames of a texture that moves, and the true flow [H, W, 2] from each to the next.

    ``motion`` tells what moves to (x, y) from where; the flow at a place is sought by fixed-point iteration.
    """
    y, x = np.mgrid[: size[0], : size[1]].astype(np.float64)
    frames = []
    at_x, at_y = x, y
    for _ in range(count):
        frames.append(np.clip(np.rint(texture(at_x, at_y)), 0, 255).astype(np.uint8))
        at_x, at_y = motion(at_x, at_y)
    true_x, true_y = np.zeros(size), np.zeros(size)
    for _ in range(30):
        from_x, from_y = motion(x + true_x, y + true_y)
        true_x, true_y = true_x - (from_x - x), true_y - (from_y - y)
    return np.array(frames), np.stack([true_x, true_y], axis=-1).astype(np.float32)


def shifted(dx: float, dy: float, *, size: tuple[int, int] = (72, 96), count: int = 2) -> Frames:
    return moving(lambda x, y: (x - dx, y - dy), size=size, count=count)[0]


def distance(one: Flow, other: Flow) -> NDArray[np.float64]:
    """End-point error, pixels."""
    return np.linalg.norm(np.asarray(one, np.float64) - other, axis=-1)


def inner(field: NDArray[Any], border: int = 12) -> NDArray[Any]:
    """Without the borders, over which pictures come and go: there rounding decides between flows that are all wrong."""
    return field[..., border:-border, border:-border]


# ---- motion that is known ----


@pytest.mark.parametrize("backend", HERE)
@pytest.mark.parametrize(("dx", "dy"), [(0.5, 0.0), (-1.3, 0.7), (4.0, -3.0)])
def test_a_shifted_picture_has_that_shift_everywhere(backend: str, dx: float, dy: float) -> None:
    (flow,) = tvl1_flow(shifted(dx, dy, size=(60, 72)), backend=backend)
    assert flow.dtype == np.float32
    assert inner(distance(flow, np.float32([dx, dy]))).mean() < 0.1


@pytest.mark.parametrize("backend", ["numba", "torch"])
@pytest.mark.parametrize(("zoom", "turn_rad"), [(1.03, 0.0), (0.97, 0.0), (1.0, 0.03)])
def test_zoom_and_rotation(backend: str, zoom: float, turn_rad: float) -> None:
    def motion(x: Any, y: Any) -> tuple[Any, Any]:
        x, y = (x - 36) / zoom, (y - 30) / zoom
        return 36 + np.cos(turn_rad) * x + np.sin(turn_rad) * y, 30 - np.sin(turn_rad) * x + np.cos(turn_rad) * y

    frames, true = moving(motion, size=(60, 72))
    assert np.abs(true).max() > 1
    assert inner(distance(tvl1_flow(frames, backend=backend)[0], true)).mean() < 0.12


def test_rubber_whale() -> None:
    """OpenCV's own flow is off by 0.156 pixels there."""
    folder = SHARED / "flow"
    if not folder.is_dir():
        pytest.skip("the Middlebury frames (../shared/flow) are not on this machine")
    frames = [cv2.imread(str(folder / f"RubberWhale_frame{i}.png"), cv2.IMREAD_GRAYSCALE) for i in (10, 11)]
    height, width = np.shape(frames[0])
    true = np.fromfile(folder / "RubberWhale_flow10.flo", np.float32)[3:].reshape(height, width, 2)
    known = (np.abs(true) < 1e9).all(axis=-1)
    (flow,) = tvl1_flow(frames)
    assert distance(flow, np.where(known[..., None], true, 0))[known].mean() < 0.16


# ---- the reference ----


def planes_of(shape: tuple[int, int], values: dict[int, NDArray[Any]]) -> tuple[NDArray[np.float32], int]:
    """Planes as the kernels want them, and their row stride."""
    memory = flow_numba._Memory.of(*shape)
    stride = kernels.row_stride(shape[1])
    for plane, value in values.items():
        rows_of(memory.planes[plane], shape, stride)[...] = value
    return memory.planes, stride


def rows_of(plane: NDArray[np.float32], shape: tuple[int, int], stride: int) -> NDArray[np.float32]:
    """The pixels of a plane."""
    rows = plane[stride : (shape[0] + 1) * stride].reshape(shape[0], stride)
    return rows[:, kernels.MARGIN : kernels.MARGIN + shape[1]]


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (5, 1), (2, 16), (3, 17), (9, 15), (6, 33)])
@pytest.mark.parametrize("count", [1, 2, 4])
def test_fused_iterations_are_the_references_one_by_one(reference: ModuleType, shape: tuple[int, int], count: int) -> None:
    dice = np.random.default_rng(count)
    u, gradient, rho = dice.normal(size=(2, *shape)), 5 * dice.normal(size=(2, *shape)), 3 * dice.normal(size=shape)
    p = dice.uniform(-0.5, 0.5, size=(2, 2, *shape))
    gradient[:, dice.uniform(size=shape) < 0.2] = 0  # flat places
    square = (gradient**2).sum(axis=0)
    inverse = np.divide(1, square, out=np.zeros(shape), where=square > 0)
    order = [*u, *p[0], *p[1], *gradient, inverse, rho]
    planes, stride = planes_of(shape, dict(enumerate(order)))
    state, parameters = reference.State(u, p), reference.Parameters()
    expected = [reference.iterate(state, gradient, rho, parameters) for _ in range(count)]
    errors = np.empty(count, np.float32)
    kernels.iterate(planes, stride, shape, np.float32(0.3), np.float32(0.25 / 0.3), np.float32(0.045), errors)
    assert errors == pytest.approx(expected, rel=1e-5)
    found = np.stack([rows_of(plane, shape, stride) for plane in planes[:6]])
    np.testing.assert_allclose(found, [*state.u, *state.p[0], *state.p[1]], atol=2e-6)


@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (7, 16), (19, 34)])
def test_warping_is_the_references(reference: ModuleType, shape: tuple[int, int]) -> None:
    dice = np.random.default_rng(0)
    i0, i1 = dice.uniform(0, 255, size=(2, *shape)).astype(np.float32)
    u = (4 * dice.normal(size=(2, *shape))).astype(np.float32)  # also to places far outside
    memory = flow_numba._Memory.of(*shape)
    planes, stride = planes_of(shape, dict(enumerate(u)))
    around = memory.channels[: (shape[0] + 8) * (shape[1] + 8) * 4].reshape(shape[0] + 8, -1)
    kernels.channels_of(i1, around)
    first = np.zeros((1, i0.size + kernels.LANES), np.float32)
    first[0, : i0.size] = i0.reshape(-1)
    kernels.warp(planes, stride, shape, first, 0, around, memory.places, memory.weights, memory.found)
    gradient, rho = reference.linearise(i0.astype(np.float64), i1.astype(np.float64), u.astype(np.float64))
    found = {plane: rows_of(planes[plane], shape, stride) for plane in (kernels.I1X, kernels.I1Y, kernels.RHO, kernels.INVERSE)}
    np.testing.assert_allclose([found[kernels.I1X], found[kernels.I1Y]], gradient, atol=1e-2)
    np.testing.assert_allclose(found[kernels.RHO], rho, atol=5e-2)
    square = (gradient**2).sum(axis=0)
    textured = square > 1e-2
    np.testing.assert_allclose(found[kernels.INVERSE][textured] * square[textured], 1, rtol=0.05)


@pytest.mark.parametrize("backend", HERE)
@pytest.mark.parametrize("size", [(24, 20), (17, 31)])
@pytest.mark.parametrize("median", [0, 3, 5])
def test_a_whole_pair_is_the_references(reference: ModuleType, backend: str, size: tuple[int, int], median: int) -> None:
    if backend == "opencv" and int(cv2.__version__.split(".")[0]) < 5:
        pytest.skip("OpenCV before 5 reads between pixels at 32 places only")
    frames = shifted(0.8, -0.4, size=size)
    params = replace(NEVER_STOPPING, scales=2, inner_iterations=4, median=median)
    plain = reference.Parameters(warps=2, epsilon=0.0, inner=4, outer=2, median=median)
    expected, _ = reference.pair_flow(*frames.astype(np.float64), params.scale_sizes(*size), plain)
    assert distance(tvl1_flow(frames, backend=backend, params=params)[0], expected).max() < 2e-3


@pytest.mark.parametrize("epsilon", [0.3, 0.1, 0.03])
def test_the_stopping_rule_is_asked_after_each_iteration(reference: ModuleType, epsilon: float) -> None:
    frames, size = shifted(0.8, -0.4, size=(20, 24)), (20, 24)
    params = TVL1Params(scales=1, warps=1, epsilon=epsilon, inner_iterations=7, outer_iterations=6)
    plain = reference.Parameters(warps=1, epsilon=epsilon, inner=7, outer=6)
    _, expected = reference.pair_flow(*frames.astype(np.float64), [size], plain)
    solver = flow_numba._Solver(*size, params=params, workers=1)
    counts = solver.iterations(solver.pyramid(frames[0]), solver.pyramid(frames[1]), np.empty((*size, 2), np.float32))
    assert counts.tolist() == [expected]
    assert 1 < expected[0] < 42


# ---- OpenCV ----


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("backend", ["numba", "torch"])
def test_the_flow_is_opencvs(backend: str, preset: str) -> None:
    """Where the stopping rule is nearly met, rounding decides; so not to the last digit."""
    frames, _ = moving(lambda x, y: (x / 1.02 - 1.5, y / 1.02), size=(60, 72))
    params = PRESETS[preset]
    theirs = tvl1_flow(frames, backend="opencv", params=params)
    error = distance(tvl1_flow(frames, backend=backend, params=params), theirs)
    assert error.mean() < 0.08
    assert inner(error).mean() < 0.01


@pytest.mark.parametrize("size", [(3, 3), (16, 16), (15, 40), (40, 17), (33, 48), (50, 31)])
@pytest.mark.parametrize("backend", ["numba", "torch"])
def test_odd_and_small_sizes_are_opencvs(backend: str, size: tuple[int, int]) -> None:
    frames = shifted(0.6, 0.3, size=size, count=3)
    theirs = tvl1_flow(frames, backend="opencv", params=NEVER_STOPPING)
    assert distance(tvl1_flow(frames, backend=backend, params=NEVER_STOPPING), theirs).mean() < 0.02


def test_scales_and_pyramids_are_opencvs() -> None:
    params = TVL1Params(scales=9)
    sizes = params.scale_sizes(61, 93)
    assert sizes[0] == (61, 93)
    assert min(sizes[-1]) >= 16
    assert round(min(sizes[-1]) * 0.8) < 16
    picture = np.random.default_rng(0).integers(0, 256, (61, 93)).astype(np.uint8)
    pyramid = flow_numba._Solver(61, 93, params=params, workers=1).pyramid(picture)[0]
    smaller, start = picture.astype(np.float32), 0
    for height, width in sizes:
        assert smaller.shape == (height, width)
        found = pyramid[start : start + height * width].reshape(height, width)
        np.testing.assert_allclose(found, smaller, atol=1e-3)
        start += height * width
        smaller = cv2.resize(smaller, None, fx=0.8, fy=0.8, interpolation=cv2.INTER_LINEAR)


@pytest.mark.parametrize("side", [3, 5])
@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (5, 16), (21, 35)])
def test_the_median_is_opencvs_to_the_last_bit(shape: tuple[int, int], side: int) -> None:
    u = np.random.default_rng(0).normal(size=(2, *shape)).astype(np.float32)
    planes, stride = planes_of(shape, dict(enumerate(u)))
    kernels.filter_median(planes, stride, shape, side, flow_numba._Memory.of(*shape).columns)
    for plane, picture in zip(planes, u, strict=False):
        np.testing.assert_array_equal(rows_of(plane, shape, stride), cv2.medianBlur(picture, side))


@pytest.mark.parametrize("side", [3, 5])
def test_the_networks_sort_and_find_the_median(side: int) -> None:
    """On all zeros and ones, which proves it for all numbers (zero-one principle)."""

    def exchanged(values: NDArray[np.bool_], network: list[tuple[int, int]]) -> NDArray[np.bool_]:
        values = values.copy()
        for i, j in network:
            values[i], values[j] = values[i] & values[j], values[i] | values[j]
        return values

    bits = np.array(list(itertools.product((False, True), repeat=side))).T
    assert (exchanged(bits, SORT_NETWORKS[side]) == np.sort(bits, axis=0)).all()
    ones = np.array(list(itertools.product(range(side + 1), repeat=side))).T  # in each column [side, N]
    windows = np.arange(side)[:, None, None] >= side - ones  # [rank, column, N]
    found = exchanged(windows.reshape(side * side, -1), MEDIAN_NETWORKS[side])[MIDDLE_WIRES[side]]
    assert (found == (ones.sum(axis=0) > side * side // 2)).all()


# ---- what must not change the flow ----


def test_transposed_frames_have_transposed_flow() -> None:
    frames = shifted(1.2, -0.5, size=(64, 80))
    (flow,) = tvl1_flow(frames)
    (other,) = tvl1_flow(frames.transpose(0, 2, 1))
    assert inner(distance(other.transpose(1, 0, 2)[..., ::-1], flow)).mean() < 0.01


@pytest.mark.parametrize("backend", HERE)
def test_mirrored_frames_have_mirrored_flow(backend: str) -> None:
    frames = shifted(1.2, -0.5, size=(48, 60))
    (flow,) = tvl1_flow(frames, backend=backend)
    (other,) = tvl1_flow(frames[:, :, ::-1], backend=backend)
    assert inner(distance(other[:, ::-1] * (-1, 1), flow)).mean() < 0.01


@pytest.mark.parametrize("cuts", [[1], [2, 3], [1, 1, 5], [0, 4, 0], [6]])
def test_chunks_threads_and_repeats_do_not_change_a_bit(cuts: list[int]) -> None:
    frames = shifted(0.7, 0.4, size=(40, 56), count=7)
    whole = tvl1_flow(frames, backend="numba", threads=1)
    assert whole.shape == (6, 40, 56, 2)
    stream = FlowStream(backend="numba", threads=3)
    pieces = [stream.push(chunk) for chunk in np.split(frames, np.cumsum(cuts))]
    assert sum(map(len, pieces)) == 6
    np.testing.assert_array_equal(np.concatenate(pieces), whole)
    singles = [tvl1_flow(frames[i : i + 2], backend="numba")[0] for i in range(6)]
    np.testing.assert_array_equal(singles, whole)


@pytest.mark.parametrize("backend", ["torch", "opencv"])
def test_chunks_do_not_change_the_other_backends_flow(backend: str) -> None:
    frames = shifted(0.7, 0.4, size=(24, 32), count=5)
    whole = tvl1_flow(frames, backend=backend, params=NEVER_STOPPING)
    stream = FlowStream(backend=backend, params=NEVER_STOPPING)
    pieces = [stream.push(chunk) for chunk in np.split(frames, [1, 4])]
    assert [len(piece) for piece in pieces] == [0, 3, 1]
    np.testing.assert_allclose(np.concatenate(pieces), whole, atol=1e-4)


@pytest.mark.parametrize("batch", [2, 4, 9])
def test_batches_do_not_change_the_flow(batch: int) -> None:
    """Of seven pairs, one of them still: batches that are full, that are not, and with a pair that stops at once."""
    frames = shifted(0.7, 0.4, size=(24, 32), count=8)
    frames[4] = frames[3]
    params = TVL1Params(scales=2, warps=2, inner_iterations=5)
    options = FlowOptions(params=params, device="cpu", threads=1, hook=ignore_progress)
    flow = TorchFlow(options, batch=batch).push(frames)
    np.testing.assert_allclose(flow, tvl1_flow(frames, backend="torch", params=params), atol=1e-4)
    assert (flow[3] == 0).all()


def test_each_frames_pyramid_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    original = flow_numba._Solver.pyramid
    frames = shifted(0.7, 0.4, size=(16, 16), count=6)

    def counted(self: Any, frame: Frames) -> Any:
        made.append(int(frame.sum()))
        return original(self, frame)

    stream = FlowStream(backend="numba", threads=2)
    monkeypatch.setattr(flow_numba._Solver, "pyramid", counted)
    for chunk in np.split(frames, 3):
        stream.push(chunk)
    assert sorted(made) == sorted(int(frame.sum()) for frame in frames)


def test_frames_may_be_read_only_views() -> None:
    frames = np.repeat(shifted(0.7, 0.4, size=(20, 20)), 2, axis=2)[:, :, ::2]
    frames.flags.writeable = False
    np.testing.assert_array_equal(tvl1_flow(frames), tvl1_flow(frames.copy()))
    assert tvl1_flow(frames, backend="torch").shape == (1, 20, 20, 2)


# ---- edges ----


@pytest.mark.parametrize("backend", HERE)
@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_frames_have_no_flow(backend: str, count: int) -> None:
    flow = tvl1_flow(np.zeros((count, 8, 9), np.uint8), backend=backend)
    assert flow.shape == (0, 8, 9, 2)
    assert flow.dtype == np.float32
    assert FlowStream(backend=backend).push(np.zeros((count, 8, 9), np.uint8)).shape == (0, 8, 9, 2)


@pytest.mark.parametrize("backend", HERE)
@pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 1), (2, 2), (33, 16)])
def test_pictures_without_texture_or_motion_have_zero_flow(backend: str, size: tuple[int, int]) -> None:
    grey = np.full((2, *size), 100, np.uint8)
    brighter = grey + np.uint8([[[0]], [[50]]])
    still = np.repeat(np.random.default_rng(0).integers(0, 256, (1, *size)).astype(np.uint8), 2, axis=0)
    for frames in (grey, still):
        assert (tvl1_flow(frames, backend=backend) == 0).all()
    # zeros outside of the picture are an edge, but no motion is invented without bound
    assert np.isfinite(tvl1_flow(brighter, backend=backend)).all()


@pytest.mark.parametrize("backend", HERE)
@pytest.mark.parametrize("size", [(1, 1), (1, 50), (2, 17), (15, 300)])
def test_noise_of_any_size_has_finite_flow(backend: str, size: tuple[int, int]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (2, *size)).astype(np.uint8)
    flow = tvl1_flow(noise, backend=backend, params=replace(NEVER_STOPPING, epsilon=0.01))
    assert flow.shape == (1, *size, 2)
    assert np.isfinite(flow).all()


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        (np.zeros((2, 8, 8), np.float32), "must be uint8, got float32"),
        (np.zeros((2, 8, 8, 3), np.uint8), "must be grey"),
        (np.zeros((8, 8), np.uint8), "must be grey"),
        (np.zeros((2, 0, 8), np.uint8), "must have pixels"),
    ],
)
def test_what_is_no_grey_video_is_refused(frames: NDArray[Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tvl1_flow(frames)


def test_a_stream_has_one_size() -> None:
    stream = FlowStream(backend="numba")
    stream.push(np.zeros((1, 8, 8), np.uint8))
    with pytest.raises(ValueError, match=r"one size.*begin a new stream"):
        stream.push(np.zeros((1, 8, 9), np.uint8))


@pytest.mark.parametrize(
    "wrong",
    [
        {"tau": 0.0},
        {"lambda_": -0.1},
        {"theta": float("nan")},
        {"scale_step": 1.0},
        {"epsilon": -1.0},
        {"warps": 0},
        {"scales": 0},
        {"outer_iterations": 0},
        {"median": 4},
        {"median": 7},
    ],
)
def test_impossible_parameters_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must"):
        TVL1Params(**wrong)


def test_the_defaults_are_opencvs() -> None:
    theirs, ours = cv2.optflow.DualTVL1OpticalFlow_create(), TVL1Params()  # type: ignore[attr-defined]
    for getter, value in {
        "Tau": ours.tau,
        "Lambda": ours.lambda_,
        "Theta": ours.theta,
        "ScalesNumber": ours.scales,
        "ScaleStep": ours.scale_step,
        "WarpingsNumber": ours.warps,
        "Epsilon": ours.epsilon,
        "InnerIterations": ours.inner_iterations,
        "OuterIterations": ours.outer_iterations,
        "MedianFiltering": ours.median,
        "Gamma": 0.0,
    }.items():
        assert getattr(theirs, f"get{getter}")() == value, getter


# ---- backends ----


def test_an_unknown_backend_lists_the_choices() -> None:
    with pytest.raises(FlowError, match=r"no flow backend 'raft'.*auto, opencv-cuda, torch, numba, opencv"):
        tvl1_flow(np.zeros((2, 8, 8), np.uint8), backend="raft")
    with pytest.raises(ValueError, match="threads must be 1"):
        FlowStream(threads=0)


def test_auto_takes_the_cpu_version_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "tal_run"):
        stream = FlowStream(threads=2)
    assert stream.backend == "numba"
    assert "backend numba, device cpu, 2 threads" in caplog.text


def test_auto_takes_a_gpu_that_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    stand_ins = {name: lambda _, name=name: made.append(name) for name in BACKENDS}
    monkeypatch.setattr(flow_module, "BACKENDS", stand_ins)
    monkeypatch.setattr(flow_opencv, "has_cuda", lambda: False)
    FlowStream(device="cuda")
    monkeypatch.setattr(flow_opencv, "has_cuda", lambda: True)
    FlowStream(device="cuda")  # OpenCV's CUDA version has no median, which the default has
    FlowStream(device="cuda", params=OPENCV_CUDA_PARAMS)
    assert made == ["torch", "torch", "opencv-cuda"]


def test_what_a_machine_lacks_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    if not flow_opencv.has_cuda():
        with pytest.raises(FlowError, match=r"no CUDA flow.*backend torch"):
            FlowStream(backend="opencv-cuda")
    with pytest.raises(FlowError, match=r"no device 'cuda:77'.*use device cpu"):
        FlowStream(backend="torch", device="cuda:77")
    monkeypatch.delattr(cv2, "optflow")
    with pytest.raises(FlowError, match="install opencv-contrib-python-headless"):
        FlowStream(backend="opencv")


def test_opencvs_cuda_version_is_asked_pair_by_pair(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """With a stand-in: that frames reach it in order, parameters in its order, and that the lack of a median is said."""
    created: list[tuple[Any, ...]] = []

    class Matrix:
        def upload(self, frame: Frames) -> None:
            self.frame = frame

    class Estimator:
        @staticmethod
        def create(*arguments: Any) -> Estimator:
            created.append(arguments)
            return Estimator()

        def calc(self, first: Matrix, second: Matrix, _: None) -> Any:
            pair = np.stack([first.frame, second.frame], axis=-1).astype(np.float32)
            return SimpleNamespace(download=lambda: pair)

    cuda = SimpleNamespace(OpticalFlowDual_TVL1=Estimator, GpuMat=Matrix, getCudaEnabledDeviceCount=lambda: 1)
    monkeypatch.setattr(cv2, "cuda", cuda)
    with caplog.at_level(logging.INFO, "tal_run"):
        stream = FlowStream(backend="opencv-cuda")
    assert "no median filter" in caplog.text
    assert created == [(0.25, 0.15, 0.3, 5, 5, 0.01, 300, 0.8, 0.0, False)]
    frames = np.arange(4, dtype=np.uint8)[:, None, None] + np.zeros((4, 3, 5), np.uint8)
    found = np.concatenate([stream.push(frames[:2]), stream.push(frames[2:])])
    assert found[:, 0, 0].tolist() == [[0, 1], [1, 2], [2, 3]]


def test_compilation_is_told_once(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    told: list[tuple[str, float]] = []

    def hook(step: str, *, completed: float, total: float | None) -> None:
        told.append((step, completed))

    FlowStream(backend="numba", hook=hook)
    told.clear()
    FlowStream(backend="numba", hook=hook)
    assert told == []
    compiled = kernels.solve_pair
    for hits, message in (({"some": 1}, "read the compiled kernels"), ({}, "compiled the kernels for this CPU")):

        class Fresh:
            signatures: tuple[()] = ()
            stats = SimpleNamespace(cache_hits=hits, cache_path="somewhere")

            def __call__(self, *arguments: Any) -> Any:
                return compiled(*arguments)

        monkeypatch.setattr(kernels, "solve_pair", Fresh())
        with caplog.at_level(logging.INFO, "tal_run"):
            FlowStream(backend="numba", hook=hook)
        assert message in caplog.text
    assert told == [("compile optical flow", 0), ("compile optical flow", 1)] * 2


def test_an_installation_that_cannot_be_written_to_still_works(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []

    def njit(function: Any, *, cache: bool = False, **options: Any) -> Any:
        asked.append(cache)
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return function

    monkeypatch.setattr(kernels, "njit", njit)
    assert kernels.compiled(abs) is abs
    assert asked == [True, False]


# ---- quantisation ----


def test_flow_is_clipped_at_20_pixels_and_scaled() -> None:
    flow = np.float32([-100, -20, -5, 0, 10, 20, 30])
    assert quantize(flow).tolist() == [-1, -1, -0.25, 0, 0.5, 1, 1]
    assert quantize(flow).dtype == np.float32


def test_eight_bits_are_those_of_stored_features() -> None:
    flow = np.float32([-100, -20, 0, 0.5, 20, 30])
    assert to_uint8(flow).tolist() == [0, 0, 128, 131, 255, 255]  # round((f + 20) / 40 * 255), halves to even
    assert from_uint8([0, 128, 255]).tolist() == pytest.approx([-1, 128 * 2 / 255 - 1, 1], abs=1e-6)
    assert quantize(flow, jpeg=True).tolist() == from_uint8(to_uint8(flow)).tolist()


def test_eight_bits_round_trip() -> None:
    pictures = np.arange(256, dtype=np.uint8)
    assert (to_uint8(from_uint8(pictures) * 20) == pictures).all()
    flow = np.random.default_rng(0).uniform(-20, 20, 10_000).astype(np.float32)
    assert np.abs(quantize(flow, jpeg=True) - quantize(flow)).max() <= 1 / 255 + 1e-6
    assert (np.diff(quantize(np.sort(flow), jpeg=True)) >= 0).all()
