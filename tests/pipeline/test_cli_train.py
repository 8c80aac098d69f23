"""``tal-run train`` and ``tal-run detect --checkpoint`` as their users meet them."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

torch = pytest.importorskip("torch")
from tal_run.eval.annotations import SUBSETS, GroundTruth, Instance, VideoTruth, write_activitynet, write_csv  # noqa: E402
from tal_run.extractors import registry  # noqa: E402
from tal_run.extractors.feature_files import FeatureFolder  # noqa: E402
from tal_run.models.head import HEADS, load_head, save_head  # noqa: E402
from tal_run.pipeline import training  # noqa: E402
from tal_run.pipeline.cli import main  # noqa: E402
from tal_run.pipeline.cli_train import HEAD_NAMES, SUBSET_NAMES  # noqa: E402
from tal_run.pipeline.trained_detector import TrainedDetector  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")

QUICK = ("--config", "dropout=0.1", "--config", "learning_rate=0.01", "--iterations", "60")
HEAD = Path("head.safetensors")


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], catch_exceptions=False)


def train(*arguments: str | Path, head: str = "wtalc") -> Result:
    return run("train", "--head", head, "--features", "features", "-o", HEAD, *arguments)


@pytest.fixture
def case(lesson: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with ``features`` and ``truth.json``, which is where we are."""
    lesson.written(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_names_are_those_that_there_are() -> None:
    assert tuple(sorted(HEADS)) == HEAD_NAMES
    assert (*SUBSETS, "all") == SUBSET_NAMES


@pytest.mark.usefixtures("case")
class TestTrain:
    def test_from_features_and_annotations_to_a_head(self, lesson: ModuleType) -> None:
        result = train("--annotations", "truth.json", *QUICK)
        assert result.exit_code == 0
        first, *told, last = result.stderr.splitlines()
        weights = sum(weight.numel() for weight in load_head(HEAD).network.parameters())
        learns = r"wtalc learns 3 actions from 24 videos \(\d+ snippets, training\), for 60 iterations"
        assert re.fullmatch(rf"{learns}: {weights} weights", first)
        assert len(told) == 20
        assert re.fullmatch(r"iteration 60 of 60: mil [\d.]+, co_activity [\d.]+", told[-1])
        assert last == "head.safetensors: wtalc, 3 actions, 60 iterations"
        assert result.stdout == ""
        trained = load_head(HEAD)
        assert trained.recipe["annotations"] == "truth.json"
        features, truth = lesson.made(6, seed=3)
        folder = FeatureFolder(lesson.write_features(Path("others"), features))
        hits = 0
        for video in truth.videos:
            best = trained.localize(folder.read(video.video_id))[0]
            for wanted in (found for found in video.instances if found.label == best.label):
                hits += max(abs(best.start_s - wanted.start_s), abs(best.end_s - wanted.end_s)) <= lesson.STEP_S
        assert hits >= 5

    def test_forms_of_annotations_and_layouts_do_not_matter(self, lesson: ModuleType) -> None:
        train("--annotations", "truth.json", "--quiet", *QUICK)
        expected = load_head(HEAD).network.state_dict()
        HEAD.unlink()
        features, truth = lesson.made()
        write_csv(truth, "truth.csv")
        Path("bare").mkdir()
        for name, data in features.items():
            np.save(f"bare/{name}.npy", data)
        arguments = ("--annotations", "truth.csv", "--fps", "10", "--window", "5", "--stride", "5", "--quiet", *QUICK)
        result = run("train", "--head", "wtalc", "--features", "bare", "-o", HEAD, *arguments)
        assert (result.exit_code, result.output) == (0, "")
        for name, weight in load_head(HEAD).network.state_dict().items():
            assert torch.equal(weight, expected[name])

    def test_a_data_set_is_learnt_from_by_its_name(self) -> None:
        Path("thumos").mkdir()
        for number, label in enumerate(("Jump", "Run")):
            lines = [f"video{index:02} 1.0 5.0\n" for index in range(number, 24, 2)]
            Path(f"thumos/{label}_val.txt").write_text("".join(lines))
        Path("thumos/Jump_test.txt").write_text("other 0 1\n")
        result = train("--dataset", "thumos14", "--data", "thumos", "--iterations", "2", head="autoloc")
        assert result.exit_code == 0
        assert "autoloc learns 2 actions from 24 videos" in result.stderr
        assert ", validation), for 2 iterations" in result.stderr
        assert load_head(HEAD).recipe["dataset"] == "thumos14"

    def test_videos_without_features_are_named(self) -> None:
        Path("features/video03.npz").unlink()
        result = train("--annotations", "truth.json", "--iterations", "2")
        assert "note: left out 1 videos that have no features: video03" in result.stderr
        assert "from 23 videos" in result.stderr

    def test_started_again_it_is_done(self) -> None:
        train("--annotations", "truth.json", "--iterations", "2")
        before = HEAD.read_bytes()
        result = train("--annotations", "truth.json", "--iterations", "2")
        assert result.exit_code == 0
        assert result.stderr == "head.safetensors: wtalc, 3 actions, 2 iterations\n"
        assert HEAD.read_bytes() == before

    def test_what_takes_much_is_said_before_it_is_taken(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from tal_run.pipeline import training_size

        assert "memory" not in train("--annotations", "truth.json", "--iterations", "2").stderr
        HEAD.unlink()
        monkeypatch.setattr(training_size, "MUCH_BYTES", 1_000_000)
        _, note, *told = train("--annotations", "truth.json", "--iterations", "2", "--save-every", "9").stderr.splitlines()
        assert re.match(
            r"note: this takes some \d+ MB of memory and what a batch takes, a disk for \d+ kB and, until it is done, \d+ kB ",
            note,
        )
        assert "(head.training.safetensors), written every 9 s (--save-every)" in note
        assert told[0].startswith("iteration 1 of 2")

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            ((), "either --dataset NAME or --annotations PATH"),
            (("--annotations", "truth.json", "--dataset", "thumos14"), "either --dataset NAME or --annotations PATH"),
            (("--annotations", "truth.json", "--data", "."), "leave it out"),
            (("--annotations", "absent.json"), "absent.json"),
            (("--dataset", "thumos15"), "there is no data set 'thumos15'"),
            (("--annotations", "truth.json", "--config", "rate"), "give KEY=VALUE"),
            (("--annotations", "truth.json", "--config", "rate=1"), "has no 'rate'"),
            (("--annotations", "truth.json", "--config", "pairs=1", "--config", "pairs=2"), "given twice"),
            (
                ("--annotations", "truth.json", "--config", "k_divisor=0", "--config", "pairs=1"),
                "wtalc cannot be configured with k_divisor=0: k_divisor and min_snippets must be at least 1 and iterations not "
                "negative\n",
            ),
            (("--annotations", "truth.json", "--fps", "25"), "give all or none"),
            (("--annotations", "truth.json", "--subset", "testing"), "no video of the subset 'testing'"),
            (("--annotations", "truth.json", "--device", "abacus"), "no device 'abacus'"),
        ],
    )
    def test_what_cannot_be_done_is_a_sentence(self, arguments: tuple[str, ...], said: str) -> None:
        result = train(*arguments)
        assert result.exit_code == 2
        assert said in result.stderr
        assert not HEAD.exists()

    def test_no_features_at_all(self) -> None:
        Path("empty").mkdir()
        result = run("train", "--head", "wtalc", "--features", "empty", "--annotations", "truth.json", "-o", HEAD)
        assert (result.exit_code, "there are no features" in result.stderr) == (2, True)

    def test_losses_go_to_tensorboard_if_it_is_there(self, monkeypatch: pytest.MonkeyPatch) -> None:
        arguments = ("--annotations", "truth.json", "--iterations", "3", "--tensorboard", "logs")
        usual, installed = importlib.util.find_spec, list[str]()

        def find_spec(name: str, package: str | None = None) -> Any:  # torch looks for others by it, which stay as they are
            return (name if name in installed else None) if name == "tensorboard" else usual(name, package)

        monkeypatch.setattr("importlib.util.find_spec", find_spec)
        result = train(*arguments)
        assert result.exit_code == 2
        assert "the package tensorboard, which is not installed: pip install 'tal-run[tensorboard]'" in result.stderr
        assert not Path("logs").exists()
        rows: list[tuple[str, int]] = []

        class Writer:
            def __init__(self, folder: str) -> None:
                assert folder == "logs"

            def __enter__(self) -> Writer:
                return self

            def __exit__(self, *_: object) -> None:
                rows.append(("closed", -1))

            def add_scalar(self, name: str, value: float, iteration: int) -> None:
                rows.append((name, iteration))

        module = ModuleType("torch.utils.tensorboard")
        module.SummaryWriter = Writer  # type: ignore[attr-defined]
        installed.append("tensorboard")
        monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
        assert train(*arguments).exit_code == 0
        assert rows == [(f"loss/{name}", n) for n in (1, 2, 3) for name in ("mil", "co_activity")] + [("closed", -1)]

    @pytest.mark.parametrize(
        ("target", "said"),
        [
            (".", "is a folder: give a file name in it, such as head.safetensors"),
            ("/dev/null", "is no file that a head can be kept in"),
            ("none/head.safetensors", "the folder none does not exist"),
            ("a" * 300, "too long for a file: give -o a shorter one"),
            ("a" * 240, "too long for a file: give -o a shorter one"),  # with .training.safetensors
        ],
    )
    def test_where_it_cannot_go_is_said_before_features_are_read(
        self, target: str, said: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("tal_run.pipeline.training_data.read_training_set", lambda *_, **__: pytest.fail("it read"))
        result = train("--annotations", "truth.json", "-o", target)
        assert result.exit_code == 2
        assert re.search(said, result.stderr), result.stderr

    def test_clips_are_learnt_from_where_times_are_not_needed(self) -> None:
        videos = json.loads(Path("truth.json").read_text())["database"]
        rows = [f"{name},training,{entry['annotations'][0]['label']},9.0\n" for name, entry in videos.items()]
        Path("clips.csv").write_text("video_id,subset,label,duration_s\n" + "".join(rows))
        assert train("--annotations", "clips.csv", "--iterations", "2", "--config", "pairs=0").exit_code == 0
        refused = train("--annotations", "clips.csv", "-o", "other.safetensors", head="scnn")
        assert refused.exit_code == 2
        assert "give it as --moments" in refused.stderr

    def test_ctrl_c_saves_and_says_how_to_go_on(self, monkeypatch: pytest.MonkeyPatch) -> None:
        arguments = ("--annotations", "truth.json", "--iterations", "20")
        train(*arguments)
        straight = HEAD.read_bytes()
        HEAD.unlink()
        usual, count = training.update, 0

        def interrupted(*args: Any, **kwargs: Any) -> Any:
            nonlocal count
            count += 1
            if count == 7:
                os.kill(os.getpid(), signal.SIGINT)
            return usual(*args, **kwargs)

        monkeypatch.setattr(training, "update", interrupted)
        result = train(*arguments)
        assert result.exit_code == 130
        answer = result.stderr.index("stopping after this iteration; again to stop now, without what is not saved\n")
        assert answer < result.stderr.index("stopped after 7 of 20 iterations, which are saved in head.training.safetensors")
        assert "the same command goes on from there" in result.stderr
        assert load_head(HEAD).recipe["iterations_done"] == 7
        assert train(*arguments).exit_code == 0
        assert count == 20
        assert HEAD.read_bytes() == straight

    def test_killed_it_goes_on_and_comes_to_the_same(self) -> None:
        command = [sys.executable, "-m", "tal_run.pipeline.cli", "train", "--head", "wtalc", "--features", "features"]
        command += ["--annotations", "truth.json", "--iterations", "300", "--quiet", "--save-every", "0", "-o"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        state = Path("killed.training.safetensors")
        process = subprocess.Popen([*command, "killed.safetensors"], env=environment)
        while not state.exists():
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert state.exists()
        command[command.index("--save-every") + 1] = "60"
        for name in ("killed", "straight"):
            subprocess.run([*command, f"{name}.safetensors"], env=environment, check=True)
        assert Path("killed.safetensors").read_bytes() == Path("straight.safetensors").read_bytes()
        assert not state.exists()


class TestDetect:
    """Videos of colours, features of the backbone that sees them, a head trained on these, and a video never seen."""

    @pytest.fixture
    def head(self, colours: str, make_video: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.chdir(tmp_path)
        backbone: Any = registry.EXTRACTORS[colours]
        usual = backbone.__call__

        def near_colours(self: Any, frames: Any, flow: Any = None) -> Any:
            """How near each colour is, twice, as of two networks."""
            _, logits = usual(self, frames, flow)
            return np.tile(np.exp(logits), 2).astype(np.float32), logits

        monkeypatch.setattr(backbone, "__call__", near_colours)
        monkeypatch.setattr(backbone, "feature_dim", 8)
        truths = []
        for index in range(6):
            colour, label = (("red", "sunset"), ("green", "mowing the lawn"))[index % 2]
            before_s, action_s = 2.0 + 0.4 * (index // 2), 4.0
            make_video(f"videos/v{index}.mp4", [("grey", before_s), (colour, action_s), ("grey", 3.0)])
            instance = Instance(before_s, before_s + action_s, f"v{index}", label)
            truths.append(VideoTruth(video_id=f"v{index}", subset="training", instances=(instance,)))
        write_activitynet(GroundTruth(videos=tuple(truths)), "truth.json")
        made = run("features", "videos", "-o", "features", "--backbone", colours, "--stride", "2", "--quiet")
        assert made.exit_code == 0
        more = ("--config", "pairs=2", "--config", "class_threshold=none", *QUICK, "--iterations", "200", "--quiet")
        assert train("--annotations", "truth.json", *more).exit_code == 0
        make_video("unseen.mp4", [("grey", 3.0), ("red", 4.0), ("grey", 4.0)])
        return tmp_path / HEAD

    @pytest.mark.parametrize("source", [("videos/v0.mp4",), ("--features", "features")])
    def test_a_head_is_not_overwritten_with_what_it_finds(self, source: tuple[str, ...], head: Path) -> None:
        before = head.read_bytes()
        result = run("detect", *source, "--checkpoint", head, "-o", head, "--format", "json")
        assert result.exit_code == 2
        assert "would be overwritten with detections: give -o a file of its own" in result.stderr
        assert head.read_bytes() == before

    def test_what_was_learnt_is_found_with_the_backbone_that_it_was_learnt_with(self, head: Path) -> None:
        result = run("detect", "unseen.mp4", "--checkpoint", head, "-q", "Sunset", "-o", "found.json")
        assert result.exit_code == 0, result.stderr
        document = json.loads(Path("found.json").read_text())
        best = document["results"]["unseen"][0]
        assert best["label"] == "Sunset"
        assert best["segment"] == pytest.approx([3.0, 7.0], abs=0.8)
        made = document["external_data"]
        assert made["backbone"]["name"] == "colours"
        assert made["backbone"]["windows"] == {"fps": 5.0, "window_frames": 8, "stride_frames": 2}  # as in training
        assert made["head"]["name"] == "wtalc"
        assert made["head"]["config"]["pairs"] == 2
        everything = run("detect", "unseen.mp4", "--checkpoint", head)
        assert everything.exit_code == 0
        assert "sunset" in {line.split("\t")[3] for line in everything.stdout.splitlines()}
        scores = [float(line.split("\t")[4]) for line in everything.stdout.splitlines()]
        assert run("detect", "unseen.mp4", "--checkpoint", head, "--min-score", str(max(scores) + 1)).stdout == ""
        assert len(run("detect", "unseen.mp4", "--checkpoint", head, "--top", "1").stdout.splitlines()) >= 1

        refused = {
            (
                "-q",
                "ironing",
            ): '"ironing" is no action that head.safetensors was trained to find: ask for one of mowing the lawn',
            ("--backbone", "starter"): "was trained on features of colours, and takes none of starter",
            ("--stride", "8"): "snippets would lie 1.6 s apart, and the head was trained on 0.4 s",
            ("--names-only",): "leave out --word-vectors and --names-only",
        }
        for arguments, said in refused.items():
            result = run("detect", "unseen.mp4", "--checkpoint", head, *arguments)
            assert (result.exit_code, said in result.stderr) == (2, True), result.stderr
        result = run("detect", "unseen.mp4", "--checkpoint", "absent.safetensors")
        assert (result.exit_code, "there is no trained head" in result.stderr) == (2, True)

        trained = load_head(head)
        self.check_others(trained)

    def check_others(self, trained: Any) -> None:
        """Heads that say less of their features, or nonsense."""
        from dataclasses import replace

        def said(**changes: Any) -> str:
            save_head("other.safetensors", replace(trained, **changes))
            result = run("detect", "unseen.mp4", "--checkpoint", "other.safetensors")
            return str(result.exit_code) + result.stderr

        unknown = replace(trained.needs, backbone=None)
        assert "name it with --backbone" in said(needs=unknown, recipe={})
        assert "makes features 8 wide" in run_with(unknown, trained, dim=6)
        assert "makes features of rgb" in run_with(unknown, trained, streams=("flow",))
        assert "there is no backbone 'telescope' here" in said(needs=replace(trained.needs, backbone="telescope"))
        assert "does not say how its videos were watched" in said(recipe={"watching": {"fps": "fast"}})
        assert "does not say how its videos were watched" in said(recipe={"watching": [1]})
        half = said(recipe={**trained.recipe, "iterations_done": 100})
        assert half.startswith("0")
        assert "note: other.safetensors is not done learning: it has had 100 of 200 iterations" in half

    def test_from_python(self, head: Path) -> None:
        detector = TrainedDetector(head)
        found = detector.detect("unseen.mp4", matches=detector.match("sunset")).detections
        assert found[0].label == "sunset"
        assert (found[0].start_s, found[0].end_s) == pytest.approx((3.0, 7.0), abs=0.8)


def run_with(needs: Any, trained: Any, **changes: Any) -> str:
    from dataclasses import replace

    network = trained.head.new_network(changes.get("dim", needs.dim), len(trained.labels), config=trained.config, seed=0)
    save_head("other.safetensors", replace(trained, needs=replace(needs, **changes), recipe={}, network=network))
    return run("detect", "unseen.mp4", "--checkpoint", "other.safetensors", "--backbone", "colours").stderr
