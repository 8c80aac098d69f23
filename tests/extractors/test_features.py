"""Windows over a stream of frames, against the plain way: all frames in memory, cut by index."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tal_run.extractors.backbone import BackboneError, WindowConfig
from tal_run.extractors.features import _remembering_the_last, cut_into_windows

Frames = NDArray[np.uint8]


def numbered(count: int) -> Frames:
    """Frames [count, 1, 2, 3] that carry their index."""
    frames = np.zeros((count, 1, 2, 3), np.uint8)
    frames[:, 0, 0, 0], frames[:, 0, 1, 0] = np.arange(count) // 256, np.arange(count) % 256
    return frames


def numbers(frames: Frames) -> list[int]:
    return (frames[:, 0, 0, 0].astype(int) * 256 + frames[:, 0, 1, 0]).tolist()


def in_chunks(frames: Frames, sizes: list[int]) -> Iterator[Frames]:
    start = 0
    while start < len(frames):
        for size in sizes:
            yield frames[start : start + size]
            start += size


def as_clips(chunks: Iterator[Frames]) -> Iterator[tuple[Frames]]:
    return ((chunk,) for chunk in chunks)


@given(st.integers(1, 300), st.integers(1, 20), st.integers(1, 25), st.lists(st.integers(1, 40), min_size=1, max_size=5))
def test_windows_are_those_cut_from_memory(count: int, window: int, stride: int, sizes: list[int]) -> None:
    windows = WindowConfig(fps=5.0, window_frames=window, stride_frames=stride)
    expected = []
    for index in range(windows.count(count)):
        inside = [k for k in range(index * stride, index * stride + window) if k < count]
        if inside:
            expected.append(inside + [count - 1] * (window - len(inside)))
    found = [numbers(frames) for (frames,), _ in cut_into_windows(as_clips(in_chunks(numbered(count), sizes)), windows)]
    assert found == expected


@given(st.integers(1, 300), st.integers(1, 20), st.integers(1, 20))
def test_no_frame_is_left_out_where_windows_touch(count: int, window: int, stride: int) -> None:
    windows = WindowConfig(fps=5.0, window_frames=window, stride_frames=min(stride, window))
    seen = {k for (frames,), _ in cut_into_windows(as_clips(iter([numbered(count)])), windows) for k in numbers(frames)}
    assert seen == set(range(count))


@given(st.integers(1, 300), st.integers(1, 20), st.integers(1, 25), st.lists(st.integers(1, 40), min_size=1, max_size=5))
def test_whole_windows_only(count: int, window: int, stride: int, sizes: list[int]) -> None:
    windows = WindowConfig(fps=5.0, window_frames=window, stride_frames=stride, last="drop")
    expected = [list(range(start, start + window)) for start in range(0, count - window + 1, stride)]
    if count < window:
        expected = [[*range(count), *[count - 1] * (window - count)]]
    found = [numbers(frames) for (frames,), _ in cut_into_windows(as_clips(in_chunks(numbered(count), sizes)), windows)]
    assert found == expected
    assert len(found) == windows.count(count)


@pytest.mark.parametrize("last", ["pad", "drop"])
def test_a_short_stream_is_looped_or_refused_as_told(last: Literal["pad", "drop"]) -> None:
    loop = WindowConfig(fps=5.0, window_frames=8, stride_frames=4, last=last, short="loop")
    assert [numbers(frames) for (frames,), _ in cut_into_windows(as_clips(iter([numbered(3)])), loop)] == [
        [0, 1, 2, 0, 1, 2, 0, 1]
    ]
    refuse = replace(loop, short="refuse")
    with pytest.raises(BackboneError, match="3 frames, fewer than one window of 8"):
        list(cut_into_windows(as_clips(iter([numbered(3)])), refuse))
    assert len(list(cut_into_windows(as_clips(iter([numbered(8)])), refuse))) == 1


def test_looping_is_for_short_streams_not_for_the_last_window() -> None:
    windows = WindowConfig(fps=5.0, window_frames=4, stride_frames=4, short="loop")
    found = [numbers(frames) for (frames,), _ in cut_into_windows(as_clips(iter([numbered(6)])), windows)]
    assert found == [[0, 1, 2, 3], [4, 5, 5, 5]]


def test_the_video_s_own_rate_is_filled_in_when_it_is_known() -> None:
    native = WindowConfig(fps=None, window_frames=16, stride_frames=4)
    assert native.at(30.0).step_s == pytest.approx(4 / 30)
    assert native.at(30.0).at(25.0).fps == 30.0
    with pytest.raises(BackboneError, match="before the video is known"):
        native.step_s  # noqa: B018


def test_what_has_been_seen_grows_to_the_end() -> None:
    windows = WindowConfig(fps=5.0, window_frames=8, stride_frames=4)
    progress = [seen for _, seen in cut_into_windows(as_clips(in_chunks(numbered(30), [7])), windows)]
    assert progress == sorted(progress)
    assert progress[-1] == 30


def test_a_frozen_stretch_is_seen_once() -> None:
    asked = []

    def backbone(window: Frames) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        asked.append(numbers(window))
        return np.zeros(3, np.float32), np.zeros(4, np.float32)

    see = _remembering_the_last(backbone)  # type: ignore[arg-type]
    for window in (numbered(4), numbered(4), numbered(4)[::-1], numbered(4)[::-1], numbered(4)):
        see((window,))
    assert len(asked) == 3


def test_a_stream_without_frames_gives_no_window() -> None:
    windows = WindowConfig(fps=5.0, window_frames=8, stride_frames=4)
    assert list(cut_into_windows(iter([]), windows)) == []


@pytest.mark.parametrize(
    "wrong",
    [{"last": "shift"}, {"short": ""}, {"fps": 0.0}, {"fps": float("nan")}, {"window_frames": 0}, {"stride_frames": -1}],
)
def test_impossible_windows_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(BackboneError, match=r"windows (need fps|end with)"):
        WindowConfig(**{"fps": 5.0, "window_frames": 8, "stride_frames": 4, **wrong})
