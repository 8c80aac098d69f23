from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tal_run.extractors.timegrid import TimeGrid

lengths = st.floats(0.05, 100.0)


@st.composite
def grids(draw: st.DrawFn) -> TimeGrid:
    count, step_s, window_s = draw(st.integers(1, 200)), draw(lengths), draw(lengths)
    covered_s = (count - 1) * step_s + window_s
    return TimeGrid(step_s=step_s, window_s=window_s, count=count, duration_s=covered_s * draw(st.floats(0.5, 1.5)))


def test_the_picture_in_the_docstring() -> None:
    grid = TimeGrid(step_s=0.8, window_s=1.6, count=3, duration_s=3.5)
    assert grid.centers_s == pytest.approx([0.8, 1.6, 2.4])
    assert grid.edges_s == pytest.approx([0.0, 1.2, 2.0, 3.5])
    assert grid.segments_to_seconds([[0, 0], [1, 2], [0, 2]]) == pytest.approx(np.array([[0, 1.2], [1.2, 3.5], [0, 3.5]]))


@given(grids())
def test_cells_tile_the_video(grid: TimeGrid) -> None:
    edges = grid.edges_s
    assert edges[0] == 0.0
    assert edges[-1] == grid.duration_s
    assert (np.diff(edges) >= 0).all()
    everything = grid.segments_to_seconds([[0, grid.count - 1]])
    assert everything.tolist() == [[0.0, grid.duration_s]]


@given(grids(), st.data())
def test_a_time_lies_in_the_cell_that_is_found_for_it(grid: TimeGrid, data: st.DataObject) -> None:
    time_s = data.draw(st.floats(0.0, grid.duration_s))
    index = int(grid.index_at(time_s))
    start_s, end_s = grid.segments_to_seconds([[index, index]])[0]
    assert start_s <= time_s <= end_s


@given(grids(), st.floats(0.1, 10.0))
def test_scaling_time_scales_every_segment(grid: TimeGrid, factor: float) -> None:
    scaled = TimeGrid(
        step_s=grid.step_s * factor,
        window_s=grid.window_s * factor,
        count=grid.count,
        duration_s=grid.duration_s * factor,
    )
    ranges = [[index, index] for index in range(grid.count)]
    assert scaled.segments_to_seconds(ranges) == pytest.approx(grid.segments_to_seconds(ranges) * factor, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("segments", [[[0, 3]], [[-1, 0]], [[2, 1]]])
def test_ranges_off_the_grid_are_refused(segments: list[list[int]]) -> None:
    with pytest.raises(ValueError, match=r"must lie in 0\.\.2"):
        TimeGrid(step_s=1.0, window_s=2.0, count=3, duration_s=4.0).segments_to_seconds(segments)


@pytest.mark.parametrize("wrong", [{"step_s": 0.0}, {"window_s": -1.0}, {"count": 0}, {"duration_s": float("nan")}])
def test_impossible_grids_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="a time grid needs"):
        TimeGrid(**{"step_s": 1.0, "window_s": 2.0, "count": 3, "duration_s": 4.0, **wrong})  # type: ignore[arg-type]
