"""What ``make methods`` does with its data and its results, on features made for the purpose."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
sys.path.insert(0, str(Path(__file__).parent / "benchmarks"))

from methods_data import Split, Watched, sections
from methods_numbers import autoloc_gradients, scnn_minimum
from methods_runs import Row, Training, code_of, run
from methods_table import ORDERS, trainings
from methods_tables import tables

from tal_run.eval.annotations import Instance, VideoTruth
from tal_run.extractors.features import Features
from tal_run.extractors.timegrid import TimeGrid
from tal_run.models.wtalc import WTALCConfig

STEP_S = 0.5


def watched(name: str, count: int, *instances: tuple[float, float, str]) -> Watched:
    """A video whose features say which snippet is which, and what happens in it."""
    grid = TimeGrid(step_s=STEP_S, window_s=STEP_S, count=count, duration_s=count * STEP_S)
    data = np.zeros((count, 4), np.float32)
    data[:, 3] = np.arange(count)
    for start, end, label in instances:
        data[int(start / STEP_S) : int(end / STEP_S), "abc".index(label)] = 5.0
    truth = VideoTruth(
        video_id=name, duration_s=count * STEP_S, instances=tuple(Instance(s, e, name, label) for s, e, label in instances)
    )
    logits = np.zeros((count, 2), np.float32)
    return Watched(truth=truth, features=Features(data=data, grid=grid, logits=logits, labels=("x", "y")))


class TestSections:
    VIDEO = watched("v", 60, (2.0, 4.0, "a"), (8.0, 10.0, "b"), (20.0, 23.0, "a"), (25.0, 28.0, "c"))

    def test_nothing_else_happens_in_them_and_the_rest_is_as_it_was(self) -> None:
        found = sections(Split(videos=(self.VIDEO,), labels=("a", "b", "c")), ["a"])
        assert [instance.label for video in found.videos for instance in video.truth.instances] == ["a", "a"]
        for video in found.videos:
            (instance,) = video.truth.instances
            grid, data = video.features.grid, video.features.data
            inside = (grid.centers_s > instance.start_s) & (grid.centers_s < instance.end_s)
            assert (data[:, 0] == 5).tolist() == inside.tolist()  # times and features have moved alike
            assert not data[:, 1:3].any()
            assert grid.edges_s[[0, -1]].tolist() == pytest.approx([0, video.truth.duration_s])

    def test_they_are_cut_midway_to_what_else_happens(self) -> None:
        first, second = sections(Split(videos=(self.VIDEO,), labels=("a", "b", "c")), ["a"]).videos
        assert first.features.data[:, 3].tolist() == list(range(12))  # 4 s to 8 s: cut at 6 s
        assert second.features.data[[0, -1], 3].tolist() == [30, 47]  # 10 s to 20 s, 23 s to 25 s

    def test_what_overlaps_something_else_is_left_out(self) -> None:
        video = watched("v", 40, (2.0, 6.0, "a"), (5.0, 8.0, "b"), (15.0, 18.0, "a"))
        (found,) = sections(Split(videos=(video,), labels=("a", "b")), ["a"]).videos
        assert len(found.truth.instances) == 1
        assert not found.features.data[:, 1].any()

    def test_all_classes_leave_videos_whole(self) -> None:
        (found,) = sections(Split(videos=(self.VIDEO,), labels=("a", "b", "c")), ["a", "b", "c"]).videos
        assert np.array_equal(found.features.data, self.VIDEO.features.data)
        assert [(i.start_s, i.end_s) for i in found.truth.instances] == [
            (i.start_s, i.end_s) for i in self.VIDEO.truth.instances
        ]


class Few:
    """A handful of videos as all that there is."""

    def __init__(self) -> None:
        videos = [watched(f"v{n}", 30, (3.0 + n % 4, 8.0, "abc"[n % 3])) for n in range(12)]
        self.split_ = Split(videos=tuple(videos), labels=("a", "b", "c"))
        self.learnt = 0

    def split(self, name: str) -> Split:
        return self.split_

    def learn(self, name: str) -> Any:
        self.learnt += 1
        return self.split_.training_set(timed=name == "times")


class TestRuns:
    TRAINING = Training(
        method="W-TALC",
        head="wtalc",
        config=WTALCConfig(iterations=3),
        learn="labels",
        rows={"whole": Row(), "other": Row(how="x")},
    )

    def test_a_result_is_kept_and_not_made_again(self, tmp_path: Path) -> None:
        data: Any = Few()
        files = run(tmp_path, self.TRAINING, 0, data, on="test")
        content = [file.read_bytes() for file in files]
        for head in (tmp_path / "heads").iterdir():
            head.write_bytes(b"not to be read again")
        assert run(tmp_path, self.TRAINING, 0, data, on="test") == files
        assert [file.read_bytes() for file in files] == content
        cards = [json.loads(text) for text in content]
        assert [card["row"] for card in cards] == ["whole", "other"]
        assert all(len(card["scores"]["wsad"]) == 7 for card in cards)
        assert "W-TALC" in tables(files, on="test")

    def test_another_seed_configuration_or_data_is_another_result(self, tmp_path: Path) -> None:
        data: Any = Few()
        names = {run(tmp_path, self.TRAINING, seed, data, on="test")[0] for seed in (0, 1)}
        other = replace(self.TRAINING, config=WTALCConfig(iterations=2))
        names.add(run(tmp_path, other, 0, data, on="test")[0])
        data.split_ = replace(data.split_, videos=data.split_.videos[:9])
        names.add(run(tmp_path, self.TRAINING, 0, data, on="test")[0])
        assert len(names) == 4

    def test_what_a_module_says_about_itself_is_not_what_it_does(self, tmp_path: Path) -> None:
        for name, text in {
            "a": '"""One."""\n\n\ndef f(x):\n    """Two."""\n    return x + 1  # three\n',
            "b": '"""Another."""\n\n\ndef f(x):\n    """Else."""\n    return x + 1\n',
            "c": '"""One."""\n\n\ndef f(x):\n    """Two."""\n    return x + 2  # three\n',
        }.items():
            (tmp_path / f"{name}.py").write_text(text)
        one, same, other = (code_of(tmp_path / f"{name}.py") for name in "abc")
        assert one == same != other

    def test_every_order_is_of_rows_that_there_are_and_none_is_there_twice(self) -> None:
        rows = [(row.method or training.method, name) for training in trainings() for name, row in training.rows.items()]
        assert len(set(rows)) == len(rows)
        for order in ORDERS:
            assert {(order.method, order.better), (order.method, order.worse)} <= set(rows)


def test_the_numbers_are_those_of_the_equations() -> None:
    assert max(row.difference for row in autoloc_gradients()) < 1e-12
    assert max(row.difference for row in scnn_minimum()) < 1e-6
