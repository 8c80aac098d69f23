"""Training: it finds what it was taught, and being cut off anywhere changes nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
from safetensors import safe_open  # noqa: E402
from safetensors.numpy import load_file, save_file  # noqa: E402

from tal_run.eval.annotations import AnnotationError, GroundTruth, Instance, VideoTruth  # noqa: E402
from tal_run.extractors.feature_files import FeatureFolder  # noqa: E402
from tal_run.extractors.features import FeatureError  # noqa: E402
from tal_run.extractors.timegrid import Sampling, TimeGrid  # noqa: E402
from tal_run.models.head import HEADS, HeadError, TrainingVideo, head_named, load_head, make_batch  # noqa: E402
from tal_run.pipeline import training  # noqa: E402
from tal_run.pipeline.head_config import configured  # noqa: E402
from tal_run.pipeline.outputs import OutputError  # noqa: E402
from tal_run.pipeline.training import (  # noqa: E402
    FORMAT,
    Interrupted,
    TrainOptions,
    is_done,
    train,
    training_file,
)
from tal_run.pipeline.training_data import (  # noqa: E402
    TIMED,
    TrainingError,
    TrainingSet,
    read_training_set,
    seconds_to_borders,
    to_learn_from,
)

pytestmark = pytest.mark.usefixtures("one_thread")

ALL_HEADS = ("actionbytes", "ahernet", "autoloc", "scnn", "wsad", "wtalc")


class Killed(BaseException):
    """Stands in for a kill: nobody gets to save anything."""


@pytest.fixture
def read(lesson: ModuleType, tmp_path: Path) -> Any:
    def make(name: str, **changes: Any) -> TrainingSet:
        features, truth = lesson.made(**changes)
        folder = FeatureFolder(lesson.write_features(tmp_path / "features", features))
        return read_training_set(truth, folder, timed=name in TIMED)

    return make


def begin(
    name: str, lesson: ModuleType, data: TrainingSet, target: Path, *, changes: Mapping[str, Any] | None = None, **more: Any
) -> Any:
    head = head_named(name)
    options = TrainOptions(**{key: more.pop(key) for key in ("seed", "device", "save_every_s", "tell_every") if key in more})
    config = configured(head, lesson.texts(name, **(changes or {})), iterations=more.pop("iterations", None))
    return train(target, head, data, config=config, options=options, **more)


def at(iteration: int, act: Any) -> Any:
    """A hook that acts when so many iterations are done."""

    def hook(step: str, *, completed: float, total: float | None) -> None:
        if step == "training" and completed == iteration:
            act()

    return hook


def kill() -> None:
    raise Killed


class TestWhatIsLearnt:
    @pytest.mark.parametrize("name", ["actionbytes", "wtalc", "wsad", "autoloc", "scnn"])
    def test_actions_are_found_where_they_are_in_videos_never_seen(
        self, name: str, lesson: ModuleType, read: Any, tmp_path: Path
    ) -> None:
        trained = begin(name, lesson, read(name), tmp_path / "head.safetensors")
        features, truth = lesson.made(12, seed=1)
        folder = FeatureFolder(lesson.write_features(tmp_path / "others", features))
        hits, overlaps = 0, []
        for video in truth.videos:
            found = trained.localize(folder.read(video.video_id))
            for wanted in video.instances:
                best = next((d for d in found if d.label == wanted.label), None)
                if best is None:
                    continue
                inter = min(best.end_s, wanted.end_s) - max(best.start_s, wanted.start_s)
                overlaps.append(inter / (max(best.end_s, wanted.end_s) - min(best.start_s, wanted.start_s)))
                hits += overlaps[-1] > 0.5
        assert hits >= 0.8 * sum(len(video.instances) for video in truth.videos), overlaps

    @pytest.mark.parametrize("name", ALL_HEADS)
    def test_losses_are_told_and_fall(self, name: str, lesson: ModuleType, read: Any, tmp_path: Path) -> None:
        told: list[tuple[int, dict[str, float]]] = []
        steps: list[float] = []
        trained = begin(
            name,
            lesson,
            read(name),
            tmp_path / "head.safetensors",
            tell_every=10,
            tell=lambda iteration, losses: told.append((iteration, dict(losses))),
            hook=lambda step, *, completed, total: steps.append(completed),
        )
        assert [iteration for iteration, _ in told] == list(range(10, trained.config.iterations + 1, 10))
        assert steps == list(range(trained.config.iterations + 1))
        if name not in ("actionbytes", "autoloc"):  # a later part's begins when the one before it is at its end
            assert sum(told[-1][1].values()) < sum(told[0][1].values())

    def test_the_file_is_the_head_and_says_how_it_came_about(self, lesson: ModuleType, read: Any, tmp_path: Path) -> None:
        target, data = tmp_path / "head.safetensors", read("wtalc")
        trained = begin("wtalc", lesson, data, target, seed=5)
        loaded = load_head(target)
        assert loaded.labels == lesson.LABELS
        assert loaded.needs.dim == lesson.DIM
        assert loaded.needs.step_s == pytest.approx(lesson.STEP_S)
        assert loaded.config == trained.config
        assert (loaded.recipe["seed"], loaded.recipe["videos"]) == (5, 24)
        assert loaded.recipe["data_sha256"] == data.sha256
        assert is_done(loaded)
        features, _ = lesson.made(1, seed=2)
        folder = FeatureFolder(lesson.write_features(tmp_path / "other", features))
        assert loaded.localize(folder.read("video00")) == trained.localize(folder.read("video00"))
        wrong = FeatureFolder(lesson.write_features(tmp_path / "slow", features, step_s=1.0))
        with pytest.raises(FeatureError, match=r"trained on 0\.5 s"):
            loaded.localize(wrong.read("video00"))

    def test_the_seed_decides_and_nothing_else_does(self, lesson: ModuleType, read: Any, tmp_path: Path) -> None:
        data = read("wsad")
        torch.manual_seed(1)
        before = torch.get_rng_state()
        begin("wsad", lesson, data, tmp_path / "a.safetensors", iterations=10)
        assert torch.equal(torch.get_rng_state(), before)
        torch.manual_seed(2)
        begin("wsad", lesson, data, tmp_path / "b.safetensors", iterations=10, save_every_s=0.0)
        begin("wsad", lesson, data, tmp_path / "c.safetensors", iterations=10, seed=1)
        first, second, third = ((tmp_path / f"{name}.safetensors").read_bytes() for name in "abc")
        assert first == second
        assert first != third
        assert not list(tmp_path.glob("*.training.safetensors"))


class TestGoingOn:
    @pytest.mark.parametrize("name", ALL_HEADS)
    def test_killed_at_seven_of_twenty_it_comes_to_the_same(
        self, name: str, lesson: ModuleType, read: Any, tmp_path: Path
    ) -> None:
        data, straight, resumed = read(name), tmp_path / "straight.safetensors", tmp_path / "resumed.safetensors"
        begin(name, lesson, data, straight, iterations=20)
        with pytest.raises(Killed):
            begin(name, lesson, data, resumed, iterations=20, save_every_s=0.0, hook=at(7, kill))
        with safe_open(training_file(resumed), framework="np") as file:
            assert json.loads(file.metadata()[FORMAT])["iteration"] == 6  # the seventh was not saved any more
        assert load_head(resumed).recipe["iterations_done"] == 6
        torch.manual_seed(77)
        done: list[float] = []
        begin(name, lesson, data, resumed, iterations=20, hook=lambda step, *, completed, total: done.append(completed))
        assert done == list(range(6, 21))
        assert resumed.read_bytes() == straight.read_bytes()
        assert not training_file(resumed).exists()

    @pytest.mark.parametrize("iteration", [4, 5, 6, 10, 15, 19])
    def test_labels_that_were_mined_on_the_way_are_the_same(
        self, iteration: int, lesson: ModuleType, read: Any, tmp_path: Path
    ) -> None:
        """Mining is due before iterations 5, 10 and 15: cut off before, at and after it."""
        data, straight, resumed = read("actionbytes"), tmp_path / "straight.safetensors", tmp_path / "resumed.safetensors"
        begin("actionbytes", lesson, data, straight, iterations=20)
        with pytest.raises(Killed):
            begin("actionbytes", lesson, data, resumed, iterations=20, save_every_s=0.0, hook=at(iteration, kill))
        assert ("mined" in load_file(training_file(resumed))) == (iteration > 6)
        begin("actionbytes", lesson, data, resumed, iterations=20)
        assert resumed.read_bytes() == straight.read_bytes()

    @pytest.mark.parametrize("damage", ["none", "fewer"])
    def test_a_state_without_the_labels_that_were_mined_is_a_sentence(
        self, damage: str, lesson: ModuleType, read: Any, tmp_path: Path
    ) -> None:
        data, target = read("actionbytes"), tmp_path / "head.safetensors"
        with pytest.raises(Killed):
            begin("actionbytes", lesson, data, target, iterations=20, save_every_s=0.0, hook=at(8, kill))
        path = training_file(target)
        with safe_open(path, framework="np") as file:
            metadata = file.metadata()
        tensors = load_file(path)
        mined = tensors.pop("mined")
        save_file(tensors if damage == "none" else {**tensors, "mined": mined[:-1].copy()}, path, metadata)
        with pytest.raises(TrainingError, match="delete it to begin anew"):
            begin("actionbytes", lesson, data, target, iterations=20)

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
    def test_asked_to_stop_it_saves_what_is_done(
        self, number: signal.Signals, lesson: ModuleType, read: Any, tmp_path: Path
    ) -> None:
        data, straight, resumed = read("wtalc"), tmp_path / "straight.safetensors", tmp_path / "resumed.safetensors"
        begin("wtalc", lesson, data, straight, iterations=20)
        before = signal.getsignal(number)
        with pytest.raises(Interrupted) as stopped:
            begin("wtalc", lesson, data, resumed, iterations=20, hook=at(7, lambda: os.kill(os.getpid(), number)))
        assert signal.getsignal(number) == before
        assert stopped.value.iteration == 7
        begin("wtalc", lesson, data, resumed, iterations=20)
        assert resumed.read_bytes() == straight.read_bytes()

    def test_who_asks_it_to_stop_is_answered_while_it_still_works(self, lesson: ModuleType, read: Any, tmp_path: Path) -> None:
        answered, in_time = threading.Event(), list[bool]()

        def ask() -> None:
            os.kill(os.getpid(), signal.SIGINT)
            in_time.append(answered.wait(60))

        data, target = read("wtalc"), tmp_path / "head.safetensors"
        with pytest.raises(Interrupted):
            begin("wtalc", lesson, data, target, iterations=20, hook=at(7, ask), stopping=answered.set)
        assert in_time == [True]
        answered.clear()
        begin("wtalc", lesson, data, target, iterations=20, stopping=answered.set)
        assert not answered.is_set()  # nobody asked
        assert threading.active_count() == 1

    def test_asked_again_it_stops_at_once(self, lesson: ModuleType, read: Any, tmp_path: Path) -> None:
        def ask_twice() -> None:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

        with pytest.raises(KeyboardInterrupt) as stopped:
            begin("wtalc", lesson, read("wtalc"), tmp_path / "head.safetensors", iterations=20, hook=at(7, ask_twice))
        assert not isinstance(stopped.value, Interrupted)
        assert not list(tmp_path.glob("*.safetensors"))

    def test_cut_off_between_its_two_files_it_goes_by_the_first(self, lesson: ModuleType, read: Any, tmp_path: Path) -> None:
        data, straight, resumed = read("wtalc"), tmp_path / "straight.safetensors", tmp_path / "resumed.safetensors"
        begin("wtalc", lesson, data, straight, iterations=20)
        with pytest.raises(Killed):
            begin("wtalc", lesson, data, resumed, iterations=20, save_every_s=0.0, hook=at(7, kill))
        resumed.unlink()
        begin("wtalc", lesson, data, resumed, iterations=20)
        assert resumed.read_bytes() == straight.read_bytes()

    def test_what_a_killed_one_had_half_written_is_removed_and_nothing_else(
        self, lesson: ModuleType, read: Any, tmp_path: Path
    ) -> None:
        data, target, other = read("wtalc"), tmp_path / "head.safetensors", tmp_path / "other.safetensors"
        for path in (target, training_file(target), other):
            code = "import os, sys; from tal_run.extractors.files import written_whole\n"
            code += "with written_whole(sys.argv[1]) as part: part.write_bytes(b'half'); os.kill(os.getpid(), 9)"
            subprocess.run([sys.executable, "-c", code, str(path)], check=False)
        assert len(list(tmp_path.glob(".tal-run-*"))) == 3
        begin("wtalc", lesson, data, target, iterations=3)
        (left,) = tmp_path.glob(".tal-run-*")
        begin("wtalc", lesson, data, other, iterations=3)
        assert not left.exists()
        assert not list(tmp_path.glob(".tal-run-*"))

    @pytest.mark.parametrize("name", ["actionbytes", "wtalc"])
    def test_videos_without_a_label_in_common_are_no_pairs(
        self, name: str, lesson: ModuleType, read: Any, tmp_path: Path
    ) -> None:
        data, target = read(name, count=1), tmp_path / "head.safetensors"
        with pytest.raises(HeadError, match=rf"^{name} learns from pairs .* in two of these 1: .* or --config pairs=0$"):
            begin(name, lesson, data, target, iterations=3)
        assert not target.exists()
        begin("wtalc", lesson, data, target, iterations=3, changes={"pairs": 0})

    def test_two_at_once_are_one(self, lesson: ModuleType, read: Any, tmp_path: Path) -> None:
        data, target, alone = read("wtalc"), tmp_path / "head.safetensors", tmp_path / "alone.safetensors"
        begin("wtalc", lesson, data, alone, iterations=20)

        def another() -> None:
            with pytest.raises(OutputError, match=r"another training writes .*head\.safetensors: let it end"):
                begin("wtalc", lesson, data, target, iterations=20)

        begin("wtalc", lesson, data, target, iterations=20, hook=at(7, another))
        assert target.read_bytes() == alone.read_bytes()

    def test_what_another_made_in_the_meantime_is_not_overwritten(
        self, lesson: ModuleType, read: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        data, target, usual = read("wtalc"), tmp_path / "head.safetensors", training.held_alone
        made = []

        def late(path: Path) -> Any:
            monkeypatch.setattr(training, "held_alone", usual)
            begin("wtalc", lesson, data, target, iterations=3)
            made.append(target.read_bytes())
            return usual(path)

        monkeypatch.setattr(training, "held_alone", late)
        with pytest.raises(TrainingError, match="seed 0 instead of 1"):
            begin("wtalc", lesson, data, target, iterations=3, seed=1)
        assert made == [target.read_bytes()]

    def test_what_is_done_is_not_done_again(self, lesson: ModuleType, read: Any, tmp_path: Path) -> None:
        data, target = read("wtalc"), tmp_path / "head.safetensors"
        begin("wtalc", lesson, data, target, iterations=20)
        was = target.stat()
        begin("wtalc", lesson, data, target, iterations=20, hook=at(0, kill))
        assert target.stat().st_mtime_ns == was.st_mtime_ns

    @pytest.mark.parametrize(
        ("changed", "said"),
        [
            ({"seed": 1}, "with seed 0 instead of 1"),
            ({"iterations": 30}, "with iterations=20 instead of 30"),
            ({"changes": {"margin": 0.25}}, "with margin=0.5 instead of 0.25"),
            ({"data": {"seed": 9}}, "on other features or annotations"),
        ],
    )
    def test_another_training_is_neither_gone_on_with_nor_overwritten(
        self, changed: dict[str, Any], said: str, lesson: ModuleType, read: Any, tmp_path: Path
    ) -> None:
        target, more = tmp_path / "head.safetensors", dict(changed)
        data = read("wtalc")
        with pytest.raises(Killed):
            begin("wtalc", lesson, data, target, iterations=20, save_every_s=0.0, hook=at(7, kill))
        if "data" in more:
            data = read("wtalc", **more.pop("data"))
        for gone in (None, training_file(target)):
            if gone:
                gone.unlink()
            with pytest.raises(TrainingError, match=said):
                begin("wtalc", lesson, data, target, **{"iterations": 20, **more})

    def test_a_file_of_something_else_is_kept(self, lesson: ModuleType, read: Any, tmp_path: Path) -> None:
        target = tmp_path / "head.safetensors"
        target.write_text("my thesis")
        with pytest.raises(TrainingError, match="would be overwritten"):
            begin("wtalc", lesson, read("wtalc"), target)
        assert target.read_text() == "my thesis"

    @pytest.mark.parametrize("damage", ["cut", "text", "metadata", "tensor", "iteration", "schedule"])
    def test_a_damaged_state_is_a_sentence(self, damage: str, lesson: ModuleType, read: Any, tmp_path: Path) -> None:
        data, target = read("wtalc"), tmp_path / "head.safetensors"
        with pytest.raises(Killed):
            begin("wtalc", lesson, data, target, iterations=20, save_every_s=0.0, hook=at(7, kill))
        path = training_file(target)
        tensors = load_file(path)
        with safe_open(path, framework="np") as file:
            metadata = file.metadata()
        if damage == "cut":
            path.write_bytes(path.read_bytes()[:-100])
        elif damage == "text":
            path.write_text("nothing")
        elif damage == "metadata":
            save_file(tensors, path)
        elif damage == "tensor":
            del tensors["network.classifier.bias"]
            save_file(tensors, path, metadata)
        else:
            change = {"iteration": {"iteration": 99}, "schedule": {"schedules": [{"optimizer": "mine"}]}}[damage]
            save_file(tensors, path, {FORMAT: json.dumps({**json.loads(metadata[FORMAT]), **change})})
        with pytest.raises(TrainingError, match="delete it to begin anew"):
            begin("wtalc", lesson, data, target, iterations=20)


class TestWhatGoesWrong:
    def test_a_loss_that_is_no_number_stops_it(self, lesson: ModuleType, read: Any, tmp_path: Path) -> None:
        data, target = read("wtalc"), tmp_path / "head.safetensors"
        with pytest.raises(TrainingError, match=r"became (nan|inf).*nothing was saved.*--config learning_rate="):
            begin("wtalc", lesson, data, target, changes={"learning_rate": 1e30})
        assert not target.exists()

    def test_weights_that_are_none_are_not_saved(
        self, lesson: ModuleType, read: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def spoil(head: Any, network: Any, steps: Any, batch: Any, *, config: Any) -> dict[str, float]:
            with torch.no_grad():
                next(network.parameters()).fill_(torch.nan)
            return {"mil": 0.0, "co_activity": 0.0}

        data, target = read("wtalc"), tmp_path / "head.safetensors"
        monkeypatch.setattr(training, "update", spoil)
        with pytest.raises(TrainingError, match="weights became infinite or NaN"):
            begin("wtalc", lesson, data, target, iterations=1)
        assert not target.exists()

    def test_what_torch_cannot_compute_is_a_sentence(self, lesson: ModuleType, read: Any, tmp_path: Path) -> None:
        with pytest.raises(TrainingError, match="iteration 1 could not be computed"):
            begin("wtalc", lesson, read("wtalc"), tmp_path / "head.safetensors", changes={"learning_rate": 1e39})

    def test_a_device_that_is_not_there(self, lesson: ModuleType, read: Any, tmp_path: Path) -> None:
        for device in ("cuda:99", "abacus"):
            with pytest.raises(TrainingError, match=f"no device '{device}'"):
                begin("wtalc", lesson, read("wtalc"), tmp_path / "head.safetensors", device=device)

    def test_a_place_that_cannot_be_written_is_known_at_once(self, lesson: ModuleType, read: Any, tmp_path: Path) -> None:
        with pytest.raises(Exception, match="does not exist"):
            begin("wtalc", lesson, read("wtalc"), tmp_path / "absent" / "head.safetensors", hook=at(0, kill))

    def test_too_few_videos_is_the_methods_sentence(self, lesson: ModuleType, read: Any, tmp_path: Path) -> None:
        with pytest.raises(HeadError, match="groups of 4 videos"):
            begin("wsad", lesson, read("wsad", count=4), tmp_path / "head.safetensors")


class TestConfiguration:
    @pytest.mark.parametrize(
        ("name", "values", "said"),
        [
            ("wsad", {"k": "0", "groups": "5"}, "with k=0: block, k and groups must be at least 1 and iterations not negative"),
            (
                "scnn",
                {"width": "0", "batch_size": "2"},
                "with width=0: step_frames, segment_steps and width must be at least 1 ",
            ),
            ("scnn", {"negative_iou": "0.9"}, "with negative_iou=0.9: negative_iou, rescue_iou and positive_iou must rise "),
            ("scnn", {"window_frames": "3,2"}, "with window_frames=3,2: window_frames must rise from 1 on, got (3, 2)"),
            (
                "actionbytes",
                {"batch_size": "4", "dropout": "0.1"},
                "with batch_size=4: a batch of 4 videos must have room for 3 ",
            ),
            # each can be had with the other, and neither is what is wrong
            ("actionbytes", {"batch_size": "4", "pairs": "2", "dropout": "7"}, "with dropout=7.0: dropout must lie in 0..1, "),
            ("autoloc", {"nms_tiou": "2", "inflation": "1"}, "with nms_tiou=2.0: nms_tiou must lie in 0..1 and inflation "),
            # both together are
            (
                "wtalc",
                {"batch_size": "12", "pairs": "7"},
                "with batch_size=12, pairs=7: a batch of 12 videos must have room for 7 ",
            ),
        ],
    )
    def test_what_cannot_be_is_named_and_nothing_else(self, name: str, values: dict[str, str], said: str) -> None:
        with pytest.raises(TrainingError) as refused:
            configured(head_named(name), values)
        assert str(refused.value).startswith(f"{name} cannot be configured {said}")
        assert "Config(" not in str(refused.value)

    def test_values_have_the_fields_types(self) -> None:
        config = configured(head_named("wtalc"), {"max_snippets": "none", "pairs": "2", "learning_rate": "1e-3"})
        assert (config.max_snippets, config.pairs, config.learning_rate) == (None, 2, 1e-3)
        config = configured(head_named("autoloc"), {"anchors": "1, 2,4", "average": "false", "gate": "score"}, streams=1)
        assert (config.anchors, config.average, config.gate, config.streams) == ((1, 2, 4), False, "score", 1)
        assert configured(head_named("autoloc"), {"streams": "4"}, streams=1).streams == 4

    @pytest.mark.parametrize(
        ("values", "said"),
        [
            ({"rate": "1"}, "wtalc has no 'rate' to configure: choose one of batch_size, class_threshold"),
            ({"pairs": "1.5"}, "wtalc's pairs cannot be '1.5'"),
            ({"pairs": "true"}, "wtalc's pairs cannot be 'true'"),
            ({"learning_rate": "nan"}, "learning_rate cannot be 'nan'"),
            ({"learning_rate": "Infinity"}, "learning_rate cannot be 'Infinity'"),
            ({"pairs": "9"}, "must have room for 9 pairs"),
            ({"iterations": "0"}, "give it one at least"),
            ({"learning_rate": "-1"}, "learning_rate cannot be -1: give a rate"),
            ({"weight_decay": "-1"}, "weight_decay cannot be -1"),
            ({"max_snippets": "0"}, "max_snippets cannot be 0: give 1 or more"),
            ({"batch_size": "99999999"}, "batch_size cannot be 1e.08: give 1 to 100,000"),
            ({"learning_rate": "[" * 100_000}, "learning_rate cannot be"),
            ({"learning_rate": "9" * 400}, "learning_rate cannot be"),
        ],
    )
    def test_what_cannot_be_is_a_sentence(self, values: dict[str, str], said: str) -> None:
        with pytest.raises(TrainingError, match=said):
            configured(head_named("wtalc"), values)

    def test_the_papers_numbers_stand_by_default(self) -> None:
        for name in HEADS:
            assert configured(head_named(name), {}) == head_named(name).config()

    @pytest.mark.parametrize("name", ALL_HEADS)
    @pytest.mark.parametrize("iterations", [1, 7, 20, 1000])
    def test_iterations_are_what_was_asked_for(self, name: str, iterations: int) -> None:
        assert configured(head_named(name), {}, iterations=iterations).iterations == iterations


class TestData:
    @given(st.floats(0.1, 3), st.floats(0.1, 4), st.integers(1, 40), st.floats(0.1, 30), st.lists(st.floats(0, 1), max_size=9))
    def test_seconds_are_borders_the_other_way_round(
        self, step_s: float, window_s: float, count: int, duration_s: float, shares: list[float]
    ) -> None:
        grid = TimeGrid(step_s=step_s, window_s=window_s, count=count, duration_s=duration_s)
        seconds = np.array(shares) * duration_s
        borders = seconds_to_borders(grid, seconds)
        assert ((borders >= 0) & (borders <= count)).all()
        assert grid.borders_to_seconds(borders) == pytest.approx(seconds, abs=1e-6)

    def test_methods_that_learn_from_times_get_them_and_others_do_not(self, read: Any) -> None:
        timed, weak = read("scnn"), read("wtalc")
        assert [video.classes for video in timed.videos] == [video.classes for video in weak.videos]
        assert not any(len(video.segments) for video in weak.videos)
        video = timed.videos[1]
        for (start, end), kind in zip(video.segments, video.segment_classes, strict=True):
            inside = video.features[round(start) : round(end), kind]
            assert (inside > 0.5).all()
            assert start == pytest.approx(round(start))
        assert timed.sha256 != weak.sha256

    def test_names_features_and_times_are_part_of_what_it_is(self, lesson: ModuleType, tmp_path: Path) -> None:
        features, truth = lesson.made(4)
        folder = FeatureFolder(lesson.write_features(tmp_path, features))
        digests = {read_training_set(truth, folder, timed=True).sha256}
        moved = truth.videos[0].instances[0]
        other = replace(truth.videos[0], instances=(replace(moved, end_s=moved.end_s + 0.1),))
        digests.add(read_training_set(replace(truth, videos=(other, *truth.videos[1:])), folder, timed=True).sha256)
        features["video00"][0, 0] += 1
        lesson.write_features(tmp_path, features)
        digests.add(read_training_set(truth, FeatureFolder(tmp_path), timed=True).sha256)
        assert len(digests) == 3

    def test_videos_without_features_or_actions_are_left_out(self, lesson: ModuleType, tmp_path: Path) -> None:
        features, truth = lesson.made(6)
        del features["video01"]
        features["v_video02"] = features.pop("video02")  # ActivityNet's prefix
        folder = FeatureFolder(lesson.write_features(tmp_path, features))
        silent = replace(truth.videos[0], instances=())
        truth = replace(truth, videos=(silent, *truth.videos[1:]))
        data = read_training_set(truth, folder, timed=False)
        assert (data.missing, data.unlabelled, len(data.videos)) == (("video01",), ("video00",), 4)
        assert len(read_training_set(truth, folder, timed=True).videos) == 5  # background teaches where nothing is

    def test_nothing_left_is_loud(self, lesson: ModuleType, tmp_path: Path) -> None:
        features, _ = lesson.made(6)
        folder = FeatureFolder(lesson.write_features(tmp_path, features))
        named = VideoTruth(video_id="video00.MP4", instances=(Instance(0.0, 1.0, "video00.MP4", "run"),))
        with pytest.raises(TrainingError, match="a video is called as its file without the ending"):
            read_training_set(GroundTruth(videos=(named,)), folder, timed=False)
        stranger = VideoTruth(video_id="x", instances=(Instance(0.0, 1.0, "x", "run"),))
        with pytest.raises(
            TrainingError, match=r"nothing to learn from.*of 1 annotated videos, 1 have no features there \(x\)"
        ):
            read_training_set(GroundTruth(videos=(stranger,)), folder, timed=False)

    def test_features_of_two_kinds_are_refused(self, lesson: ModuleType, tmp_path: Path) -> None:
        features, truth = lesson.made(4)
        lesson.write_features(tmp_path, features)
        lesson.write_features(tmp_path, {"video03": features["video03"][:, :4]})
        with pytest.raises(FeatureError, match="video03 are not like those of video00"):
            read_training_set(truth, FeatureFolder(tmp_path), timed=False)

    def test_other_layouts_say_how_they_lie_in_time_or_are_told(self, lesson: ModuleType, tmp_path: Path) -> None:
        features, truth = lesson.made(4)
        for name, data in features.items():
            np.save(tmp_path / f"{name}.npy", data)
        with pytest.raises(FeatureError, match="give fps, stride and window"):
            read_training_set(truth, FeatureFolder(tmp_path), timed=True)
        data = read_training_set(
            truth, FeatureFolder(tmp_path), timed=True, sampling=Sampling(fps=10, stride_frames=5, window_frames=5)
        )
        assert data.needs.step_s == pytest.approx(0.5)
        assert data.videos[1].segments == pytest.approx(np.round(data.videos[1].segments))

    def test_the_subset_to_learn_from(self) -> None:
        def truth(*subsets: str | None) -> GroundTruth:
            return GroundTruth(videos=tuple(VideoTruth(video_id=str(n), subset=name) for n, name in enumerate(subsets)))

        every = truth("testing", "validation", "training")
        assert to_learn_from(every)[1] == "training"
        assert to_learn_from(truth("testing", "validation"))[1] == "validation"
        assert to_learn_from(truth(None, None)) == (truth(None, None), "all")
        assert len(to_learn_from(every, "all")[0].videos) == 3
        assert to_learn_from(truth("testing"), "testing")[1] == "testing"
        with pytest.raises(TrainingError, match="--subset testing"):
            to_learn_from(truth("testing"))
        with pytest.raises(AnnotationError):
            to_learn_from(truth("testing"), "training")

    def test_a_stretch_has_the_labels_of_its_own_times(self) -> None:
        video = TrainingVideo(
            features=np.arange(100, dtype=np.float32)[:, None],
            classes=(0, 1),
            segments=np.array([[0.0, 10.0], [90.0, 100.0]]),
            segment_classes=np.array([0, 1]),
        )
        seen = set()
        for seed in range(60):
            batch = make_batch([video], num_classes=2, rng=np.random.default_rng(seed), max_snippets=20)
            start = int(batch.features[0, 0, 0])
            assert batch.labels[0].tolist() == [float(start < 10), float(start + 20 > 90)]
            seen.add(tuple(batch.labels[0].tolist()))
        assert (0.0, 0.0) in seen
        plain = make_batch(
            [replace(video, segments=np.empty((0, 2)), segment_classes=np.empty(0, np.int64))],
            num_classes=2,
            rng=np.random.default_rng(0),
        )
        assert plain.labels[0].tolist() == [1.0, 1.0]
