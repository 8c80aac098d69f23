"""Pictures and their motion side by side: which flow belongs to which frame, and that stages hand over without loss."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

pytest.importorskip("cv2")

from tal_run.extractors.backbone import ANY_LENGTH, Preprocessing, Rows, WindowConfig
from tal_run.extractors.features import extract
from tal_run.extractors.flow import OPENCV_CUDA_PARAMS, FlowError, TVL1Params, quantize, tvl1_flow
from tal_run.extractors.flow_opencv import has_cuda
from tal_run.extractors.recipes import grey
from tal_run.extractors.two_streams import FlowConfig, ahead, with_flow
from tal_run.extractors.video import open_video

Frames = NDArray[np.uint8]


class PairFlow:
    """Stands in for a flow stream: the flow to a frame is the pair of numbers (the one before, its own), plus the place."""

    def __init__(self) -> None:
        self.last: int | None = None

    def push(self, frames: Frames) -> NDArray[np.float32]:
        numbers = [] if self.last is None else [self.last]
        numbers += frames[:, 0, 0].astype(int).tolist()
        self.last = numbers[-1]
        height, width = frames.shape[1:]
        places = np.stack(np.meshgrid(np.arange(height), np.arange(width), indexing="ij"), axis=-1) / 100
        pairs = np.array(list(pairwise(numbers)), np.float32).reshape(-1, 1, 1, 2)
        return (pairs + places).astype(np.float32)


def numbered(count: int, *, height: int = 4, width: int = 5) -> Frames:
    """Grey-looking RGB frames [count, H, W, 3] of the value of their index."""
    return np.broadcast_to(np.arange(count, dtype=np.uint8)[:, None, None, None], (count, height, width, 3)).copy()


def joined(pieces: Iterator[tuple[Any, Any]]) -> tuple[Any, Any]:
    frames, flow = zip(*pieces, strict=True)
    return np.concatenate(frames), np.concatenate(flow)


class TestWithFlow:
    @given(st.integers(2, 60), st.lists(st.integers(1, 9), min_size=1, max_size=5))
    def test_each_frame_has_the_flow_to_the_next_one_however_it_comes(self, count: int, sizes: list[int]) -> None:
        def chunks() -> Iterator[Frames]:
            start = 0
            while start < count:
                for size in sizes:
                    if start < count:
                        yield numbered(count)[start : start + size]
                    start += size

        frames, flow = joined(with_flow(chunks(), PairFlow()))  # type: ignore[arg-type]
        assert np.array_equal(frames, numbered(count))
        expected = [(k, k + 1) for k in range(count - 1)] + [(count - 2, count - 1)]  # the last is that of the one before
        assert flow[:, 0, 0].tolist() == [list(pair) for pair in expected]

    def test_a_single_frame_does_not_move(self) -> None:
        frames, flow = joined(with_flow(iter([numbered(1)]), PairFlow()))  # type: ignore[arg-type]
        assert frames.shape == (1, 4, 5, 3)
        assert flow.shape == (1, 4, 5, 2)
        assert not flow.any()

    def test_the_crop_is_of_frames_and_flow_alike_and_flow_is_of_whole_frames(self) -> None:
        whole_frames, whole_flow = joined(with_flow(iter([numbered(3)]), PairFlow()))  # type: ignore[arg-type]
        frames, flow = joined(with_flow(iter([numbered(3)]), PairFlow(), crop=(2, 3)))  # type: ignore[arg-type]
        assert np.array_equal(frames, whole_frames[:, 1:3, 1:4])
        assert np.array_equal(flow, whole_flow[:, 1:3, 1:4])

    def test_the_way_over_pictures_rounds_as_quantize_says(self) -> None:
        _, plain = joined(with_flow(iter([numbered(30)]), PairFlow()))  # type: ignore[arg-type]
        _, rounded = joined(with_flow(iter([numbered(30)]), PairFlow(), jpeg=True))  # type: ignore[arg-type]
        assert np.array_equal(rounded, quantize(plain, jpeg=True) * np.float32(20))
        assert rounded.max() == 20
        assert plain.max() > 20

    def test_no_frames_give_nothing(self) -> None:
        assert list(with_flow(iter([]), PairFlow())) == []  # type: ignore[arg-type]


class TestAhead:
    def test_all_items_come_in_order(self) -> None:
        with ahead(iter(range(100))) as items:
            assert list(items) == list(range(100))

    def test_what_goes_wrong_is_raised_where_the_item_is_asked_for(self) -> None:
        def failing() -> Iterator[int]:
            yield 1
            raise OSError("no more")

        with ahead(failing()) as items:
            assert next(items) == 1
            with pytest.raises(OSError, match="no more"):
                next(items)

    def test_no_more_than_told_wait(self) -> None:
        made = []

        def counting() -> Iterator[int]:
            for index in range(1000):
                made.append(index)
                yield index

        with ahead(counting(), most=3) as items:
            next(items)
            time.sleep(0.3)
            assert len(made) <= 1 + 3 + 1  # taken, waiting, in hand

    def test_whoever_leaves_early_leaves_no_thread(self) -> None:
        before = threading.active_count()
        with ahead(iter(range(1000))) as items:
            next(items)
        assert threading.active_count() == before

    def test_whoever_leaves_early_does_not_wait_for_what_never_comes(self) -> None:
        is_wanted = threading.Event()

        def waiting() -> Iterator[int]:
            yield 1
            is_wanted.wait(60)
            raise OSError("stopped")

        started = time.monotonic()
        with ahead(waiting(), stop=is_wanted.set) as items:
            next(items)
        assert time.monotonic() - started < 30


class TestFlowConfig:
    def test_the_recipe_tells_all_that_decides(self) -> None:
        recipe = FlowConfig(params=OPENCV_CUDA_PARAMS, jpeg=True).recipe("cpu")
        assert recipe.backend == "numba"
        assert recipe.parameters["lambda"] == 0.15
        assert recipe.parameters["inner_iterations"] == 300
        assert recipe.parameters["jpeg"] is True
        assert FlowConfig().recipe("cpu") != recipe
        assert FlowConfig(backend="opencv").recipe("cpu").backend == "opencv"

    def test_an_unknown_backend_lists_the_choices(self) -> None:
        with pytest.raises(
            FlowError, match="no flow backend 'farneback': choose one of auto, opencv-cuda, torch, numba, opencv"
        ):
            FlowConfig(backend="farneback").recipe("cpu")

    @pytest.mark.skipif(has_cuda(), reason="OpenCV has CUDA here")
    def test_what_the_machine_lacks_is_said_before_any_video(self) -> None:
        with pytest.raises(FlowError, match="has no CUDA flow"):
            FlowConfig(backend="opencv-cuda").recipe("cpu")


class Recorder:
    """A backbone that keeps the windows it is shown."""

    name: ClassVar[str] = "recorder"
    streams: ClassVar[tuple[str, ...]] = ("rgb", "flow")
    multi_label: ClassVar[bool] = False
    preprocessing = Preprocessing(short_side=48, crop=(32, 40), interpolation="opencv")
    default_windows = WindowConfig(fps=None, window_frames=8, stride_frames=8, last="drop")
    window_lengths: ClassVar[range] = ANY_LENGTH
    labels: tuple[str, ...] = ()
    device = "cpu"

    def __init__(self) -> None:
        self.seen: list[tuple[Frames, NDArray[np.float32]]] = []

    def __call__(self, frames: Frames, flow: NDArray[np.float32] | None = None, /) -> Rows:
        assert flow is not None
        self.seen.append((frames, flow))
        return np.array([frames.mean(), flow.mean()], np.float32), None


def test_a_video_streams_through_as_if_it_were_computed_at_once(factory: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "video.mp4"
    factory.make_video(path, frame_count=45, rate=30, size=(96, 64))
    with open_video(path) as video:
        whole = np.concatenate([c.frames for c in video.frames(fps=30, short_side=48, interpolation="opencv")])
    params = TVL1Params(warps=1, outer_iterations=1)
    flow = tvl1_flow(grey(whole), params=params, backend="numba")
    recorder: Any = Recorder()
    features = extract(path, backbone=recorder, flow=FlowConfig(params=params, backend="numba"))

    assert features.data.shape == (5, 2)  # 45 frames: five windows of eight, the last five frames dropped
    assert features.stream_dims == (("rgb", 1), ("flow", 1))
    assert features.logits is None
    assert features.flow_backend == "numba"
    assert features.grid.step_s == pytest.approx(8 / 30)
    for index, (frames, motion) in enumerate(recorder.seen):
        here = slice(8 * index, 8 * index + 8)
        assert np.array_equal(frames, whole[here, 8:40, 16:56])
        assert np.array_equal(motion, flow[here, 8:40, 16:56])


def test_a_video_that_breaks_off_ends_the_flow_too(factory: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "video.mp4"
    factory.make_video(path, frame_count=1, rate=30, size=(96, 64))
    features = extract(path, backbone=Recorder(), flow=FlowConfig(backend="numba"))  # type: ignore[arg-type]
    assert features.data.shape == (1, 2)
    assert features.data[0, 1] == 0
    assert features.padded
