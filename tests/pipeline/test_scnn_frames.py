"""S-CNN from video: which frames its segments are, the order of its stages, and from the command line to detections."""

from __future__ import annotations

import importlib.util
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import av
import numpy as np
import pytest
from click.testing import CliRunner, Result
from numpy.typing import NDArray

torch = pytest.importorskip("torch")
pytest.importorskip("pytorchvideo")
from tal_run.eval.annotations import GroundTruth, Instance, VideoTruth, write_activitynet  # noqa: E402
from tal_run.eval.moments import Moment  # noqa: E402
from tal_run.models import scnn_frames  # noqa: E402
from tal_run.models.head import HeadError, load_head  # noqa: E402
from tal_run.models.scnn import augment, predict  # noqa: E402
from tal_run.models.scnn_frames import Clips, head_on, iterate, lengths, localize, stage_of, steps  # noqa: E402
from tal_run.models.scnn_network import Scnn, ScnnConfig, Trunk, sampled_steps, windows  # noqa: E402
from tal_run.pipeline import scnn_clips  # noqa: E402
from tal_run.pipeline.cli import main  # noqa: E402
from tal_run.pipeline.scnn_clips import read_clips, videos_in  # noqa: E402
from tal_run.pipeline.training_data import TrainingError  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = ScnnConfig(trunk="starter", step_frames=1, window_frames=(4, 8, 16), segment_steps=4)


class Means(Trunk):
    """The mean colours of frames, in place of a network."""

    def __init__(self) -> None:
        super().__init__()
        self.feature_dim, self.is_new = 12, True
        self.weight = torch.nn.Parameter(torch.randn(12))

    def forward(self, segments: Any) -> Any:
        return (segments.float().mean(dim=(2, 3)) / 255).flatten(1) * self.weight


def a_network(config: ScnnConfig = SMALL, *, classes: int = 3) -> Scnn:
    torch.manual_seed(0)
    network = Scnn(classes, config=config, make_trunk=Means).eval()
    for part in (network.proposal, network.localization):
        torch.nn.init.normal_(part.fc8.weight, std=6.0)
    network.set_prior(np.random.default_rng(0).dirichlet([1, 1, 1], classes))
    return network


class TestLocalize:
    @pytest.mark.parametrize("count", [0, 3, 4, 17, 61])
    @pytest.mark.parametrize("chunk", [1, 7, 100])
    def test_a_video_that_streams_has_what_one_that_is_held_has(self, count: int, chunk: int) -> None:
        network = a_network(replace(SMALL, proposal_threshold=0.5))
        video = np.random.default_rng(1).integers(0, 256, (count, 2, 2, 3), dtype=np.uint8)
        video[:, :, :, 0] = np.linspace(0, 255, count, dtype=np.uint8)[:, None, None]
        whole = predict(network, torch.from_numpy(video), batch_size=5)
        streamed = localize(network, (video[first : first + chunk] for first in range(0, count, chunk)), batch_size=5)
        for one, two in zip(whole, streamed, strict=True):
            assert one == pytest.approx(two)
        assert (len(whole.scores) > 0) == (count >= 17) or count in (3, 4)


class TestStages:
    def test_iterations_are_shared_out_in_the_papers_order(self) -> None:
        config = replace(SMALL, iterations=90_000)
        assert list(lengths(config).items()) == [
            ("proposal", 30_000),
            ("classification", 30_000),
            ("localization", 30_000),
        ]  # "30K for all three networks" (4.2)
        for share, rest in ((0.0, 1.0), (1.0, 0.5), (0.37, 0.0)):
            config = replace(SMALL, iterations=17, proposal_share=share, classification_share=rest)
            turns = [stage_of(iteration, config) for iteration in range(17)]
            assert Counter(turns) == Counter({stage: n for stage, n in lengths(config).items() if n})
            assert turns == sorted(turns, key=scnn_frames.STAGES.index)

    @pytest.mark.parametrize("pretrained", [True, False])
    def test_each_stage_changes_its_network_and_no_other(self, pretrained: bool) -> None:
        config = replace(SMALL, iterations=6, batch_size=2, pretrained=pretrained)
        network, dice = a_network(config).train(), np.random.default_rng(0)
        seen = list[list[int]]()
        frames = dice.integers(0, 256, (6, 4, 96, 128, 3), dtype=np.uint8)

        def taken(chosen: NDArray[np.int64]) -> NDArray[np.uint8]:
            seen.append(chosen.tolist())
            return frames[chosen]

        members: Any = {"proposal": np.arange(6), "classification": np.arange(4), "localization": np.arange(4)}
        clips = Clips(
            frames=taken,
            labels=np.array([1, 2, 3, 0, 0, 0]),
            overlaps=np.array([0.8, 0.9, 0.7, 1.0, 1.0, 1.0]),
            members=members,
            prior=np.full((3, 3), 1 / 3),
        )
        updates = steps(network, config)
        rates = [[group["lr"] for group in update.optimizer.param_groups] for update in updates]
        trunk = 1e-4 if pretrained else 1e-2
        assert rates == [[trunk, 2 * trunk, 1e-2, 2e-2]] * 3  # biases twice as fast
        for iteration in range(6):
            before = {name: weight.clone() for name, weight in network.state_dict().items()}
            losses = iterate(network, updates, config, rng=dice, iteration=iteration, clips=clips)
            stage = ("proposal", "proposal", "classification", "classification", "localization", "localization")[iteration]
            assert list(losses) == [stage]
            changed = {name.split(".")[0] for name, weight in network.state_dict().items() if not weight.equal(before[name])}
            assert changed == {"proposal" if stage == "proposal" else "localization"}
            assert set(seen[-1]) <= set(members[stage].tolist())

    def test_augmentation_may_leave_frames_whole(self) -> None:
        frames = torch.arange(128).expand(1, 2, 96, 128)[..., None].repeat(1, 1, 1, 1, 3)
        assert {tuple(augment(frames, size=(96, 128))[0, 0, 0, :2, 0].tolist()) for _ in range(20)} == {(0, 1), (127, 126)}

    def test_nothing_to_learn_from_is_a_sentence(self) -> None:
        config = replace(SMALL, iterations=3)
        clips = Clips(
            frames=lambda chosen: np.empty((0, 4, 96, 128, 3), np.uint8),
            labels=np.zeros(1, np.int64),
            overlaps=np.ones(1),
            members={"proposal": np.arange(1), "classification": np.arange(1), "localization": np.arange(1)},
            prior=np.full((3, 3), 1 / 3),
        )
        begin = head_on(clips).begin
        assert begin is not None
        with pytest.raises(HeadError, match="no window overlaps an action enough"):
            begin(a_network(config), (), config, start=None, rng=np.random.default_rng(0))


@pytest.fixture(scope="module")
def factory() -> ModuleType:
    """Videos whose frames say which they are."""
    spec = importlib.util.spec_from_file_location("video_factory", Path(__file__).parents[1] / "video_factory.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class TestClips:
    CONFIG = replace(SMALL, window_frames=(8, 16), segment_steps=4)

    def case(self, factory: ModuleType, folder: Path) -> tuple[GroundTruth, dict[str, Path]]:
        folder.mkdir(exist_ok=True)
        for name, count in (("a", 60), ("b", 45), ("clip", 20)):
            factory.make_video(folder / f"{name}.mp4", frame_count=count, size=(128, 96))
        instances = (Instance(16 / 25, 32 / 25, "a", "run"), Instance(40 / 25, 48 / 25, "a", "jump"))
        truth = GroundTruth(
            videos=(
                VideoTruth(video_id="a", instances=instances),
                VideoTruth(video_id="b", instances=(Instance(0.0, 8 / 25, "b", "jump"),)),
                VideoTruth(video_id="absent"),
            )
        )
        return truth, videos_in(folder)

    def test_segments_are_the_frames_that_stand_for_their_windows(self, factory: ModuleType, tmp_path: Path) -> None:
        """Each frame shows its own number."""
        truth, videos = self.case(factory, tmp_path / "videos")
        moments = (Moment(video_id="clip", label="dive"),)
        data, clips = read_clips(truth, videos, config=self.CONFIG, cache=tmp_path / "cache", moments=moments)
        assert (data.labels, data.missing) == (("dive", "jump", "run"), ("absent",))
        shown = [
            tuple(factory.read_index(frame) for frame in clips.frames(np.array([index]))[0])
            for index in range(len(clips.labels))
        ]
        pools = {
            tuple(row) for count in (60, 45) for row in sampled_steps(windows(count, config=self.CONFIG), count=4).tolist()
        }
        assert set(shown) <= pools | {(0, 5, 10, 15)}
        by_label = {label: {shown[index] for index in np.flatnonzero(clips.labels == label)} for label in (1, 2, 3)}
        assert by_label[1] == {(0, 5, 10, 15)}  # the clip, "directly sample a segment of 16 frames in uniform"
        assert {(40, 42, 44, 46), (0, 2, 4, 6)} <= by_label[2]
        assert (16, 20, 24, 28) in by_label[3]
        proposal, localization = clips.members["proposal"], clips.members["localization"]
        actions = np.flatnonzero(clips.labels > 0)
        assert set(actions) <= set(proposal)
        assert set(actions) <= set(localization)
        assert (clips.labels[proposal] == 0).sum() == len(actions)
        assert (clips.labels[localization] == 0).sum() == round(len(actions) / 3)
        assert clips.prior.sum(axis=1) == pytest.approx(1)

    def test_what_is_decoded_is_decoded_once(
        self, factory: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        truth, videos = self.case(factory, tmp_path / "videos")
        read = lambda **more: read_clips(truth, videos, config=self.CONFIG, cache=tmp_path / "cache", **more)  # noqa: E731
        first, clips = read()
        times = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").iterdir()}
        again, _ = read()
        assert first.sha256 == again.sha256
        assert times == {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").iterdir()}
        assert read(seed=1)[0].sha256 != first.sha256
        usual, made = scnn_clips._write, list[str]()

        def killed(target: Path, video: Any, *rest: Any) -> None:
            if video.name == "b":
                raise KeyboardInterrupt
            made.append(video.name)
            usual(target, video, *rest)

        for path in times:
            path.unlink()
        monkeypatch.setattr(scnn_clips, "_write", killed)
        with pytest.raises(KeyboardInterrupt):
            read()
        monkeypatch.setattr(
            scnn_clips, "_write", lambda target, video, *rest: (made.append(video.name), usual(target, video, *rest))
        )
        _, after = read()
        assert made == ["a", "b"]
        every = np.arange(len(clips.labels))
        assert np.array_equal(after.frames(every), clips.frames(every))

    def test_nothing_there_is_a_sentence(self, factory: ModuleType, tmp_path: Path) -> None:
        truth, videos = self.case(factory, tmp_path / "videos")
        none = replace(truth, videos=truth.videos[2:])
        with pytest.raises(TrainingError, match=r"1 are not there \(absent\)"):
            read_clips(none, videos, config=self.CONFIG, cache=tmp_path / "cache")
        part = (Moment(video_id="a", label="run", start_s=0.0, end_s=1.0),)
        with pytest.raises(TrainingError, match="is part of a video"):
            read_clips(truth, videos, config=self.CONFIG, cache=tmp_path / "cache", moments=part)
        (tmp_path / "empty").mkdir()
        with pytest.raises(TrainingError, match="holds no video"):
            videos_in(tmp_path / "empty")


def write_bars(path: Path, *, count: int, actions: list[tuple[int, int, str]], seed: int) -> None:
    """Eight frames a second of noise that stands still, before which a bar rises or slides while an action lasts."""
    dice = np.random.default_rng(seed)
    ground = dice.integers(90, 130, (96, 128), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=8, options={"preset": "ultrafast", "bf": "0", "crf": "12"})
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
        for index in range(count):
            picture = ground.copy()
            for start, end, label in actions:
                if start <= index < end:
                    place = (index * 9) % 80
                    area = (
                        (slice(80 - place, 96 - place), slice(None))
                        if label == "rise"
                        else (slice(None), slice(place, place + 16))
                    )
                    picture[area] = 250
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.repeat(picture[..., None], 3, axis=2), format="rgb24")))
        container.mux(stream.encode(None))


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], catch_exceptions=False)


class TestCommand:
    SETTINGS = ("window_frames=16", "segment_steps=8", "proposal_threshold=0.3", "new_learning_rate=0.003", "batch_size=4")

    @pytest.fixture
    def case(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.chdir(tmp_path)
        truths = []
        for index in range(4):
            label, name = ("rise", "slide")[index % 2], f"v{index}"
            start = 10 + 2 * index
            write_bars(Path(f"videos/{name}.mp4"), count=56, actions=[(start, start + 16, label)], seed=index)
            instance = Instance(start / 8, start / 8 + 2.0, name, label)
            truths.append(VideoTruth(video_id=name, subset="training", instances=(instance,)))
        write_activitynet(GroundTruth(videos=tuple(truths)), "truth.json")
        return tmp_path

    def train(self, *more: str, target: str = "scnn.safetensors", iterations: int = 36) -> Result:
        settings = [text for setting in self.SETTINGS for text in ("--config", setting)]
        arguments = ("--head", "scnn", "--annotations", "truth.json", "--videos", "videos", "--trunk", "starter")
        return run("train", *arguments, *settings, "-o", target, "--iterations", str(iterations), *more)

    def test_from_videos_to_detections(self, case: Path) -> None:
        result = self.train(iterations=60)
        assert result.exit_code == 0, result.stderr
        assert "scnn learns 2 actions from" in result.stderr
        told = [line for line in result.stderr.splitlines() if line.startswith("iteration")]
        assert "proposal" in told[0]
        assert "localization" in told[-1]
        trained = load_head("scnn.safetensors")
        assert trained.config.trunk == "starter"
        assert trained.labels == ("rise", "slide")
        write_bars(Path("unseen.mp4"), count=64, actions=[(24, 40, "slide")], seed=99)
        found = run("detect", "unseen.mp4", "--checkpoint", "scnn.safetensors", "-o", "found.json")
        assert found.exit_code == 0, found.stderr
        document = json.loads(Path("found.json").read_text())
        best = document["results"]["unseen"][0]
        assert best["label"] == "slide"
        assert best["segment"] == pytest.approx([3.0, 5.0], abs=0.51)
        made = document["external_data"]
        assert made["backbone"]["name"] == "scnn-starter"
        assert made["backbone"]["windows"]["fps"] == "native"
        only = run("detect", "unseen.mp4", "--checkpoint", "scnn.safetensors", "-q", "Rise")
        assert only.exit_code == 0
        assert {line.split("\t")[3] for line in only.stdout.splitlines()} <= {"Rise"}
        refused = run("detect", "unseen.mp4", "--checkpoint", "scnn.safetensors", "--backbone", "starter")
        assert (refused.exit_code, "leave out --backbone" in refused.stderr) == (2, True)

    def test_killed_it_goes_on_and_comes_to_the_same(self, case: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        assert self.train(target="straight.safetensors", iterations=6).exit_code == 0
        usual, count = scnn_frames.stage_loss, 0

        class Killed(BaseException):
            pass

        def dying(*arguments: Any, **more: Any) -> Any:
            nonlocal count
            count += 1
            if count in (2, 6):  # in the first part, and in the last
                raise Killed
            return usual(*arguments, **more)

        monkeypatch.setattr(scnn_frames, "stage_loss", dying)
        for _ in range(2):
            with pytest.raises(Killed):
                self.train("--save-every", "0", target="killed.safetensors", iterations=6)
        assert self.train("--save-every", "0", target="killed.safetensors", iterations=6).exit_code == 0
        assert count == 8
        assert Path("killed.safetensors").read_bytes() == Path("straight.safetensors").read_bytes()

    def test_missing_weights_say_what_to_put_where(self, case: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TAL_RUN_WEIGHTS", str(case))
        monkeypatch.setenv("XDG_CACHE_HOME", str(case / "cache"))
        settings = ("--config", "window_frames=16", "--iterations", "3")
        result = run(
            "train", "--head", "scnn", "--annotations", "truth.json", "--videos", "videos", *settings, "-o", "c3d.safetensors"
        )
        assert result.exit_code == 2
        assert "c3d.pickle" in result.stderr
        assert not Path("c3d.safetensors").exists()

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (("--head", "scnn", "--videos", "videos", "--features", "x"), "--features does not go with --videos"),
            (("--head", "wtalc", "--videos", "videos"), "wtalc learns from features"),
            (("--head", "scnn", "--features", "x", "--trunk", "c3d"), "--trunk does not go without --videos"),
            (("--head", "scnn", "--videos", "videos", "--config", "trunk=c3d"), "leave out --config trunk"),
        ],
    )
    def test_what_does_not_go_together_is_a_sentence(self, arguments: tuple[str, ...], said: str, case: Path) -> None:
        result = run("train", *arguments, "--annotations", "truth.json", "-o", "scnn.safetensors")
        assert (result.exit_code, said in result.stderr) == (2, True), result.stderr
