"""AherNet from videos and moments to a head, by the command line: all of the paper's runs, cut off anywhere."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

torch = pytest.importorskip("torch")
from tal_run.eval.annotations import GroundTruth, Instance, VideoTruth, write_activitynet  # noqa: E402
from tal_run.eval.moments import Moment, moments_of  # noqa: E402
from tal_run.extractors.feature_files import FeatureFolder  # noqa: E402
from tal_run.models.head import head_named, load_head  # noqa: E402
from tal_run.pipeline.ahernet_stages import star_file, train_ahernet  # noqa: E402
from tal_run.pipeline.cli import main  # noqa: E402
from tal_run.pipeline.head_config import configured  # noqa: E402
from tal_run.pipeline.training import TrainOptions, training_file  # noqa: E402
from tal_run.pipeline.training_data import MomentSource, TrainingError, TrainingSet, read_training_set  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")

MOMENTS = frozenset({"run", "throw"})


def train(lesson: ModuleType, *arguments: str | Path, **settings: Any) -> Result:
    values = {**lesson.QUICK["ahernet"], "iterations": 3, "context_iterations": 2, **settings}
    config = [text for key, value in values.items() for text in ("--config", f"{key}={value}")]
    command = ["train", "--head", "ahernet", "-o", "head.safetensors", *map(str, arguments), *config]
    return CliRunner().invoke(main, command, catch_exceptions=False)


@pytest.fixture
def case(lesson: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    lesson.written(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


class TestData:
    def test_moments_are_cut_out_and_what_is_left_is_without_them(self, lesson: ModuleType, case: Path) -> None:
        features, truth = lesson.made()
        data = read_training_set(truth, FeatureFolder(case / "features"), timed=True, source=MomentSource(classes=MOMENTS))
        assert data.labels == ("jump", "run", "throw")
        assert data.moment_classes == (1, 2)
        moments = [video for video in data.videos if video.trimmed]
        wanted = [found for video in truth.videos for found in video.instances if found.label in MOMENTS]
        assert len(moments) == len(wanted)
        for video in moments:
            assert (video.features[:, video.classes[0]] > 0.5).all()  # the action from end to end ...
            assert len(video.segments) == 0
        untrimmed = [video for video in data.videos if not video.trimmed]
        assert len(untrimmed) == sum(any(i.label == "jump" for i in video.instances) for video in truth.videos)
        for video in untrimmed:
            assert not (video.features[:, 1:3] > 0.5).any()  # ... and nowhere else
            inside = np.zeros(len(video.features), np.bool_)
            for start, end in video.segments.round().astype(int):
                inside[start:end] = True
            assert np.array_equal(inside, video.features[:, 0] > 0.5)  # what is left has kept its times
        assert len(features) == 24

    def test_clips_of_their_own_and_stretches_of_videos_are_moments(self, lesson: ModuleType, case: Path) -> None:
        features, truth = lesson.made()
        jumps = replace(
            truth,
            videos=tuple(
                replace(video, instances=tuple(i for i in video.instances if i.label == "jump")) for video in truth.videos
            ),
        )
        others = [moment for moment in moments_of(truth) if moment.label in MOMENTS]
        clips = {
            f"clip{n}": features[m.video_id][round(m.start_s / lesson.STEP_S) : round(m.end_s / lesson.STEP_S)]
            for n, m in enumerate(others)
            if m.start_s is not None and m.end_s is not None
        }
        folder, apart = FeatureFolder(case / "features"), FeatureFolder(lesson.write_features(case / "clips", clips))
        whole = tuple(replace(m, video_id=f"clip{n}", start_s=None, end_s=None) for n, m in enumerate(others))
        cut, clipped = (
            read_training_set(jumps, folder, timed=True, source=MomentSource(moments=moments, folder=where))
            for moments, where in ((tuple(others), folder), (whole, apart))
        )
        assert cut.moment_classes == clipped.moment_classes == (1, 2)
        pairs = zip(cut.moments().videos, clipped.moments().videos, strict=True)
        assert all(np.array_equal(one.features, two.features) for one, two in pairs)
        assert cut.sha256 != clipped.sha256

    def test_parts_have_the_classes_that_are_in_them(self, case: Path, lesson: ModuleType) -> None:
        _, truth = lesson.made()
        data = read_training_set(truth, FeatureFolder(case / "features"), timed=True, source=MomentSource(classes=MOMENTS))
        rest, moments = data.untrimmed(), data.moments()
        assert (rest.labels, rest.moment_classes) == (("jump",), ())
        assert (moments.labels, moments.moment_classes) == (("run", "throw"), (0, 1))
        assert {kind for video in rest.videos for kind in video.segment_classes} == {0}
        assert len(rest.videos) + len(moments.videos) == len(data.videos)
        for video in moments.videos:
            assert (video.features[:, video.classes[0] + 1] > 0.5).all()

    def test_moments_that_are_annotated_again_are_cut_out_once(self, lesson: ModuleType, case: Path) -> None:
        _, truth = lesson.made()
        twice = replace(truth, videos=tuple(replace(video, instances=2 * video.instances) for video in truth.videos))
        folder, source = FeatureFolder(case / "features"), MomentSource(classes=MOMENTS)
        once, again = (read_training_set(which, folder, timed=True, source=source) for which in (truth, twice))
        assert (once.repeated, again.repeated) == (0, 24)
        assert len(once.moments().videos) == len(again.moments().videos) == 24
        assert sum(len(video.segments) for video in again.videos) == 2 * sum(len(video.segments) for video in once.videos)

    def test_a_moment_is_another_if_anything_of_it_is(self) -> None:
        moment = Moment(video_id="a", label="run", start_s=1.0, end_s=2.0, subset="training")
        changes: list[dict[str, Any]] = [{"video_id": "b"}, {"label": "jump"}, {"start_s": 0.5}, {"end_s": 3.0}]
        others = tuple(replace(moment, **change) for change in changes)
        source = MomentSource(moments=(moment, *others, replace(moment, subset="validation")))
        assert (source.moments, source.repeated) == ((moment, *others), 1)

    def test_classes_that_are_not_there_are_named(self, case: Path, lesson: ModuleType) -> None:
        _, truth = lesson.made()
        with pytest.raises(TrainingError, match="no video to learn from has curling"):
            read_training_set(
                truth, FeatureFolder(case / "features"), timed=True, source=MomentSource(classes=frozenset({"curling"}))
            )


@pytest.mark.usefixtures("case")
class TestCommand:
    @pytest.mark.parametrize("variant", ["full", "A-", "minus", "M", "0"])
    def test_all_runs_of_the_paper_learn_what_they_learn_from(self, variant: str, lesson: ModuleType) -> None:
        arguments = ("--annotations", "truth.json", "--features", "features", "--moment-classes", "run, throw")
        result = train(lesson, *arguments, variant=variant)
        assert result.exit_code == 0, result.stderr
        alone = variant in ("M", "0")
        trained = load_head("head.safetensors")
        assert trained.labels == (("run", "throw") if alone else ("jump", "run", "throw"))
        assert trained.config.moment_classes == (() if alone else (1, 2))
        assert ("from 24 moments" in result.stderr) == alone
        assert star_file("head.safetensors").exists() == (variant in ("full", "A-"))
        if not alone:
            assert re.search(r"ahernet learns 3 actions from \d+ videos and 24 moments \(", result.stderr)
        features, _ = lesson.made(1, seed=5)
        folder = FeatureFolder(lesson.write_features(Path("others"), features))
        found = trained.localize(folder.read("video00"))
        assert found
        assert {detection.label for detection in found} <= MOMENTS  # "on action moment set" (3.5)

    def test_all_actions_are_found_where_that_is_asked_for(self, lesson: ModuleType) -> None:
        arguments = ("--annotations", "truth.json", "--features", "features", "--moment-classes", "run, throw")
        assert train(lesson, *arguments, variant="full", moment_classes="()").exit_code == 0
        assert load_head("head.safetensors").config.moment_classes == ()

    def test_moments_alone_are_enough_for_those_who_learn_from_nothing_else(self, lesson: ModuleType) -> None:
        features, truth = lesson.made()
        clips, rows = {}, []
        for index, moment in enumerate(moments_of(truth)):
            assert moment.start_s is not None
            assert moment.end_s is not None
            start, end = round(moment.start_s / lesson.STEP_S), round(moment.end_s / lesson.STEP_S)
            clips[f"c{index}"] = features[moment.video_id][start:end]
            rows.append(f"c{index},training,{moment.label},{moment.end_s - moment.start_s}\n")
        lesson.write_features(Path("clips"), clips)
        Path("trimmed.csv").write_text("video_id,subset,label,duration_s\n" + "".join(rows))
        Path("moments.txt").write_text("throw\n\nrun\n")
        result = train(lesson, "--moments", "trimmed.csv", "--moment-features", "clips", variant="M")
        assert result.exit_code == 0, result.stderr
        assert load_head("head.safetensors").labels == lesson.LABELS
        Path("head.safetensors").unlink()
        both = ("--annotations", "truth.json", "--features", "features", "--moment-classes", "moments.txt")
        result = train(lesson, *both, "--moments", "trimmed.csv", "--moment-features", "clips", variant="minus")
        assert result.exit_code == 0, result.stderr
        assert f"and {24 + len(clips)} moments" in result.stderr

    def test_a_model_that_is_there_is_started_from(self, lesson: ModuleType) -> None:
        arguments = ("--annotations", "truth.json", "--features", "features", "--moment-classes", "run,throw")
        assert "first, head.star.safetensors, to start from:" in train(lesson, *arguments, variant="full").stderr
        first, star = Path("head.safetensors"), Path("head.star.safetensors").rename("star.safetensors")
        trained = load_head(first)
        first.unlink()
        result = train(lesson, *arguments, "--start-from", star, variant="full")
        assert "to start from" not in result.stderr
        again = load_head(first)
        assert not Path("head.star.safetensors").exists()
        for name, weight in again.network.state_dict().items():
            assert torch.equal(weight, trained.network.state_dict()[name]), name
        other = train(lesson, *arguments, "--start-from", "head.safetensors", variant="full")
        assert (other.exit_code, "that started from other weights" in other.stderr) == (2, True)

    @pytest.mark.parametrize(
        ("arguments", "settings", "said"),
        [
            (("--features", "features"), {"variant": "full"}, "--moment-classes"),
            (("--features", "features", "--moment-classes", "run"), {"variant": "star"}, "leave out --moments"),
            (("--features", "features", "--moment-classes", "run,jump,throw"), {"variant": "full"}, "--annotations"),
            (("--features", "features", "--moment-classes", "curling"), {"variant": "full"}, "has curling"),
            (("--features", "features", "--moment-features", "x"), {"variant": "full"}, "are those of --moments"),
            (("--features", "features", "--moments", "absent.csv"), {"variant": "full"}, "cannot read absent.csv"),
            (("--features", "features", "--moment-subset", "all"), {"variant": "full"}, "chooses among --moments"),
            ((), {"variant": "star"}, "--features DIR"),
        ],
    )
    def test_what_cannot_be_done_is_a_sentence(
        self, arguments: tuple[str, ...], settings: dict[str, str], said: str, lesson: ModuleType
    ) -> None:
        result = train(lesson, "--annotations", "truth.json", *arguments, **settings)
        assert result.exit_code == 2
        assert said in result.stderr
        assert not Path("head.safetensors").exists()

    def test_moments_have_a_subset_of_their_own(self, lesson: ModuleType) -> None:
        document = json.loads(Path("truth.json").read_text())
        for name, entry in document["database"].items():
            entry["subset"] = "validation" if name > "video11" else "training"
        Path("truth.json").write_text(json.dumps(document))

        def said(*options: str) -> str:
            Path("head.safetensors").unlink(missing_ok=True)
            arguments = ("--annotations", "truth.json", "--moments", "truth.json", "--features", "features")
            return train(lesson, *arguments, "--subset", "validation", *options, variant="minus").stderr

        half, whole = said(), said("--moment-subset", "all")
        assert re.search(r"from 12 videos and 18 moments \(\d+ snippets, validation; moments: training\)", half), half
        assert re.search(r"from 12 videos and 36 moments \(\d+ snippets, validation; moments: training, validation\)", whole)
        assert "no moments of the subset 'testing', but of training, validation" in said("--moment-subset", "testing")

    def test_moments_that_are_listed_again_count_once(self, lesson: ModuleType) -> None:
        _, truth = lesson.made()
        rows = [f"{m.video_id},{m.label},{m.start_s},{m.end_s}\n" for m in moments_of(truth)]
        heading = "video_id,label,start_s,end_s\n"
        Path("once.csv").write_text(heading + "".join(rows))
        Path("again.csv").write_text(heading + "".join([*rows, *rows[:4], rows[0]]))
        learnt = []
        for name in ("once.csv", "again.csv"):
            Path("head.safetensors").unlink(missing_ok=True)
            result = train(lesson, "--moments", name, "--features", "features", variant="M")
            assert result.exit_code == 0, result.stderr
            assert ("note: 5 moments are listed again, and each counts once" in result.stderr) == (name == "again.csv")
            learnt.append(Path("head.safetensors").read_bytes())
        assert learnt[0] == learnt[1]

    def test_other_heads_take_no_moments(self) -> None:
        command = ["train", "--head", "wtalc", "--annotations", "truth.json", "--features", "features", "-o", "h.safetensors"]
        result = CliRunner().invoke(main, [*command, "--moment-classes", "run"])
        assert (result.exit_code, "wtalc does not learn from moments" in result.stderr) == (2, True)


class Killed(BaseException):
    """Stands in for a kill: nobody gets to save anything."""


class TestGoingOn:
    @pytest.fixture
    def data(self, lesson: ModuleType, case: Path) -> TrainingSet:
        _, truth = lesson.made()
        return read_training_set(truth, FeatureFolder(case / "features"), timed=True, source=MomentSource(classes=MOMENTS))

    @pytest.mark.parametrize("variant", ["full", "A-"])
    def test_killed_in_any_part_it_comes_to_the_same_bytes(
        self, variant: str, lesson: ModuleType, data: TrainingSet, case: Path
    ) -> None:
        values = lesson.texts("ahernet", variant=variant, iterations=6, start_iterations=5, context_iterations=3)
        config = configured(head_named("ahernet"), values, moment_classes=data.moment_classes)
        straight, killed, told = case / "straight.safetensors", case / "killed.safetensors", list[tuple[str, float]]()
        train_ahernet(straight, data, config=config)

        def hook(step: str, *, completed: float, total: float | None) -> None:
            told.append((step, completed))
            if (step, completed, total) in deaths:
                deaths.remove((step, completed, total))
                raise Killed

        deaths = {("training", 2.0, 5), ("training", 0.0, 6), ("training", 4.0, 6)}
        deaths |= {("learning context", 1.0, 3)} if variant == "A-" else set()
        for _ in range(len(deaths)):
            with pytest.raises(Killed):
                train_ahernet(killed, data, config=config, options=TrainOptions(save_every_s=0.0), hook=hook)
        assert not deaths
        train_ahernet(killed, data, config=config, options=TrainOptions(save_every_s=0.0), hook=hook)
        assert killed.read_bytes() == straight.read_bytes()
        assert star_file(killed).read_bytes() == star_file(straight).read_bytes()
        assert not training_file(killed).exists()
        learnt = [completed for step, completed in told if step == "learning context"]
        assert learnt == ([0, 1, 0, 1, 2, 3] if variant == "A-" else [])  # begun anew once, and then not done again

    def test_actions_seen_as_moments_alone_are_named_in_videos_never_seen(
        self, lesson: ModuleType, data: TrainingSet, case: Path
    ) -> None:
        values = lesson.texts(
            "ahernet", variant="full", iterations=40, start_iterations=30, batch_size=12, moment_fraction="0.15,0.5"
        )
        config = configured(head_named("ahernet"), values, moment_classes=data.moment_classes)
        trained = train_ahernet(case / "head.safetensors", data, config=config)
        features, truth = lesson.made(24, seed=1)
        folder = FeatureFolder(lesson.write_features(case / "others", features))
        # an action of the other set would be taken for one of these: only they are looked for
        videos = [video for video in truth.videos if {i.label for i in video.instances} <= MOMENTS]
        best = [trained.localize(folder.read(video.video_id))[0].label for video in videos]
        right = sum(label in {i.label for i in video.instances} for label, video in zip(best, videos, strict=True))
        assert right >= 0.8 * len(videos)


def test_a_video_in_which_a_moment_overlaps_another_action_keeps_what_is_left(tmp_path: Path, lesson: ModuleType) -> None:
    """Run lasts from 2 to 5 s, jump from 4 to 8 s: what is left of that is 5 to 8, and the video is 3 s shorter."""
    data = np.zeros((20, 8), np.float32)
    data[4:10, 1] += 1
    data[8:16, 0] += 1
    instances = (Instance(2.0, 5.0, "a", "run"), Instance(4.0, 8.0, "a", "jump"))
    truth = GroundTruth(videos=(VideoTruth(video_id="a", instances=instances),))
    folder = FeatureFolder(lesson.write_features(tmp_path / "features", {"a": data}))
    write_activitynet(truth, tmp_path / "truth.json")
    found = read_training_set(truth, folder, timed=True, source=MomentSource(classes=frozenset({"run"})))
    left, moment = found.videos
    assert np.array_equal(moment.features, data[4:10])
    assert np.array_equal(left.features, np.concatenate([data[:4], data[10:]]))
    assert left.segments.tolist() == [[4.0, 10.0]]
