"""The papers' experiments: read, shown, and gone through on made files that are laid out as their data sets are."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import numpy as np
import pytest
from click.testing import CliRunner, Result

torch = pytest.importorskip("torch")
from tal_run.eval.annotations import GroundTruth, Instance, VideoTruth, write_activitynet, write_thumos  # noqa: E402
from tal_run.eval.datasets import DATASETS  # noqa: E402
from tal_run.eval.multithumos import THUMOS_CLASSES  # noqa: E402
from tal_run.eval.protocols import PROTOCOLS  # noqa: E402
from tal_run.extractors import registry  # noqa: E402
from tal_run.extractors.registry import EXTRACTORS  # noqa: E402
from tal_run.models import ahernet as ahernet_head  # noqa: E402
from tal_run.models import autoloc, wsad  # noqa: E402
from tal_run.models.head import HEADS, head_named, load_head  # noqa: E402
from tal_run.pipeline import experiment_page  # noqa: E402
from tal_run.pipeline.cli import main  # noqa: E402
from tal_run.pipeline.experiments import (  # noqa: E402
    AUC,
    AVERAGE,
    Experiment,
    commands,
    experiments,
    feature_folder,
    paper_numbers,
    result_commands,
    training_commands,
)
from tal_run.pipeline.feature_detection import SOUGHT_BY  # noqa: E402
from tal_run.pipeline.head_config import configured, parsed  # noqa: E402

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared"
FACTS = SHARED / "facts" / "methods.md"
ALL = tuple(experiments().values())
FIRSTS = tuple(found for found in ALL if not found.is_variant)
STEP_S = 0.64

each = pytest.mark.parametrize("experiment", ALL, ids=lambda found: found.name)


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], catch_exceptions=False)


def config_of(experiment: Experiment) -> object:
    return configured(head_named(experiment.head), {**experiment.config, **experiment.detection})


# ---- what they say ----


@each
class TestExperiment:
    def test_names_only_what_there_is(self, experiment: Experiment) -> None:
        assert experiment.head in HEADS
        assert experiment.protocol in PROTOCOLS
        parts = [part for part in (experiment.train, experiment.moments, experiment.test) if part]
        assert {part.dataset for part in parts} <= DATASETS.keys()
        assert all(part.watched in DATASETS or part.ground_truth for part in parts)
        if not experiment.frames:
            assert EXTRACTORS[experiment.features["backbone"]].name == experiment.features["backbone"]
        assert experiment.checkpoint in experiments()

    def test_its_numbers_are_fields_that_can_have_them_and_are_not_the_defaults(self, experiment: Experiment) -> None:
        head = head_named(experiment.head)
        config_of(experiment)
        given, usual = parsed(head, {**experiment.config, **experiment.detection}), head.config()
        assert [name for name, value in given.items() if getattr(usual, name) == value] == []

    def test_what_is_sought_with_counts_only_then(self, experiment: Experiment) -> None:
        assert experiment.detection.keys() <= set(SOUGHT_BY[experiment.head])
        assert experiment.by_tiou is None or experiment.by_tiou in SOUGHT_BY[experiment.head]

    def test_what_was_published_is_what_its_commands_reckon(self, experiment: Experiment) -> None:
        overlaps = {float(key.rpartition("@")[2]) for key in experiment.published if key not in (AVERAGE, AUC)}
        assert overlaps <= set(experiment.tious)
        assert all(0 <= value <= 100 for value in experiment.published.values())
        if AVERAGE in experiment.published and len(overlaps) == len(experiment.tious):
            values = [value for key, value in experiment.published.items() if key not in (AVERAGE, AUC)]
            fits = experiment.published[AVERAGE] == pytest.approx(np.mean(values), abs=0.06)  # to the rounding of its parts
            assert fits != any("is not that of its own row" in note for note in experiment.notes)

    def test_its_commands_are_understood(self, experiment: Experiment) -> None:
        parent = click.Context(main, info_name="tal-run", **main.context_settings)
        for line in commands(experiment)[len(experiment.prepare) :]:
            program, name, *arguments = shlex.split(line)
            assert program == "tal-run"
            main.commands[name].make_context(name, arguments, parent=parent)

    def test_it_is_shown_as_a_script_that_can_be_pasted(self, experiment: Experiment) -> None:
        lines = run("experiments", "show", experiment.name).stdout.splitlines()
        assert [line for line in lines if not line.startswith("#")] == commands(experiment)
        for key, value in experiment.published.items():
            assert f"{key}: {value:g}" in lines[1]

    def test_its_numbers_stand_in_the_paper_in_this_order(self, experiment: Experiment) -> None:
        if not FACTS.is_file():
            pytest.skip(f"needs the published numbers in {FACTS.parent}")
        texts = [FACTS.read_text(encoding="utf-8"), (SHARED / "papers" / PAPERS[experiment.head]).read_text(encoding="utf-8")]
        of_map = [value for key, value in experiment.published.items() if key != AUC]
        for values in (of_map, [experiment.published.get(AUC, of_map[0])]):
            row = ".{1,60}?".join(map(printed, values))
            assert any(re.search(row, text, flags=re.DOTALL) for text in texts), values


PAPERS = {
    "scnn": "scnn_cvpr2016.txt",
    "autoloc": "autoloc_eccv2018.txt",
    "wsad": "wsad_metric_learning_wacv2020.txt",
    "actionbytes": "actionbytes_cvpr2020.txt",
    "wtalc": "actionbytes_cvpr2020.txt",  # which is where its numbers are quoted
    "ahernet": "ahernet_eccv2020.txt",
}


def printed(value: float) -> str:
    """A pattern for a number as papers print it: 0.6 is .6, too, and 28 is 28.0."""
    whole, _, rest = f"{value:g}".partition(".")
    fraction = rf"\.{rest}0*" if rest else r"(\.0+)?"
    return rf"(?<![\d.]){'0?' if whole == '0' and rest else whole}{fraction}(?!\d)"


def test_names_are_listed_with_what_they_are() -> None:
    assert run("experiments", "list", "--names").stdout.split() == list(experiments())
    lines = run("experiments", "list").stdout.splitlines()
    assert [line.split()[0] for line in lines] == list(experiments())
    result = run("experiments", "show", "wsad")
    assert (result.exit_code, "did you mean" in result.stderr) == (2, True)


def test_every_head_is_in_one_and_features_of_one_name_are_the_same() -> None:
    assert {found.head for found in ALL} == set(HEADS)
    by_name: dict[str, Mapping[str, object]] = {}
    for found in (found for found in ALL if not found.frames):
        assert by_name.setdefault(found.features["name"], found.features) == found.features


def test_a_head_has_one_set_of_numbers_for_a_data_set() -> None:
    known = experiments()
    for name in ("autoloc-thumos14", "autoloc-activitynet12", "wsad-thumos14", "wtalc-multithumos", "scnn-features-mexaction2"):
        assert paper_numbers(known[name].head, known[name].train.dataset) is known[name]
    assert paper_numbers("scnn", "mexaction2", frames=True) is known["scnn-mexaction2"]
    assert paper_numbers("wsad", "synthetic") is None
    assert paper_numbers("actionbytes", "kinetics") is None  # it has several: what is found later is left out of some


def test_configurations_that_the_heads_files_name_are_the_ones_here() -> None:
    known = experiments()
    assert config_of(known["wsad-thumos14-code"]) == wsad.AUTHORS_CODE
    assert config_of(known["autoloc-thumos14-code"]) == autoloc.AUTHORS_CODE
    assert config_of(known["autoloc-activitynet12"]) == autoloc.ACTIVITYNET
    assert config_of(known["autoloc-activitynet12-code"]) == autoloc.AUTHORS_CODE_ACTIVITYNET
    assert config_of(known["ahernet-anet-fg-code"]) == ahernet_head.AUTHORS_CODE
    assert config_of(known["ahernet-anet-am-code"]) == ahernet_head.AUTHORS_CODE
    assert config_of(known["ahernet-k600-code"]) == ahernet_head.AUTHORS_CODE
    first = replace(ahernet_head.AUTHORS_CODE, variant="star", start_iterations=None)
    assert config_of(known["ahernet-star-activitynet13-code"]) == first


def test_a_variant_that_learns_nothing_of_its_own_takes_the_first_ones_head() -> None:
    known = experiments()
    first, variant = known["scnn-features-thumos14"], known["scnn-features-thumos14-no-proposals"]
    assert variant.checkpoint == first.name
    assert training_commands(variant) == training_commands(first)
    assert known["wsad-thumos14-clip2"].checkpoint == "wsad-thumos14-clip2"
    result = run("train", "--experiment", variant.name, "--features", "f", "-o", "o.safetensors")
    assert (result.exit_code, f"train --experiment {first.name}" in result.stderr) == (2, True)


def test_what_shares_a_head_would_have_trained_the_same() -> None:
    for found in ALL:
        trains = experiments()[found.checkpoint]
        assert trains.checkpoint == trains.name
        for name in ("head", "train", "moments", "features", "config", "seed", "extra"):
            assert getattr(found, name) == getattr(trains, name), (found.name, name)


def test_zero_shot_leaves_out_the_classes_that_are_sought() -> None:
    assert experiments()["actionbytes-zero-shot-thumos14"].config["unseen"].split(",") == list(THUMOS_CLASSES)


def test_the_page_is_what_the_experiments_say() -> None:
    # `make reproduce` writes it anew
    assert (ROOT / "docs" / "reproduce.md").read_text(encoding="utf-8") == experiment_page.page()


def test_the_page_has_a_row_for_each_and_a_value_for_none_that_was_not_measured() -> None:
    rows = re.findall(r"^\| `([\w-]+)` \|.*\|([^|]*)\|$", experiment_page.page(), flags=re.MULTILINE)
    assert sorted(name for name, _ in rows) == sorted(experiments())
    assert {name for name, ours in rows if ours.strip()} == set(experiment_page.MEASURED)


# ---- made files, laid out as the data sets are ----

Names = Callable[[str, int], str]
THUMOS: Names = lambda subset, number: f"video_{'test' if subset == 'testing' else 'validation'}_{number:07}"  # noqa: E731
ACTIVITYNET: Names = lambda subset, number: f"{subset[0]}_-4wOmHw{number:02}"  # noqa: E731
KINETICS: Names = lambda subset, number: f"-{subset[0]}R5jVB_W{number:02}_000417_000427"  # noqa: E731
LAYOUTS: dict[str, tuple[tuple[str, ...], Mapping[str, int], Names]] = {
    # labels, videos by subset, names of videos
    "thumos14": (("LongJump", "TennisSwing"), {"validation": 10, "testing": 2}, THUMOS),
    "multithumos": (("LongJump", "21"), {"training": 10, "testing": 2}, THUMOS),
    "activitynet12": (("Long jump", "Ping-pong"), {"training": 10, "validation": 2}, ACTIVITYNET),
    "activitynet13": (("Long jump", "Ping-pong"), {"training": 10, "validation": 2}, ACTIVITYNET),
    "mexaction2": (
        ("BullChargeCape", "HorseRiding"),
        {"training": 8, "testing": 2},
        lambda subset, n: f"F{subset[:2].upper()}DB{n:06}-AFP_VIS_01",
    ),
    "kinetics": (("long jump", "triple jump", "playing tennis"), {"training": 9, "validation": 9}, KINETICS),
}


def made_truth(dataset: str) -> GroundTruth:
    """Videos to learn from and two to be tried on, each with one action, or each one action; the actions in turn."""
    labels, subsets, name_of = LAYOUTS[dataset]
    videos = []
    for subset, count in subsets.items():
        for number in range(count):
            name, start_s, end_s, duration_s = name_of(subset, number + 1), 0.0, 10.0, 10.0
            if dataset != "kinetics":
                start_s, duration_s = STEP_S * (4 + number % 3), STEP_S * 20
                end_s = start_s + STEP_S * 6
            found = Instance(round(start_s, 2), round(end_s, 2), name, labels[number % len(labels)])
            videos.append(VideoTruth(video_id=name, subset=subset, duration_s=duration_s, instances=(found,)))
    return GroundTruth(videos=tuple(videos))


def lay_out(dataset: str) -> GroundTruth:
    """Its annotations in its own form, where they are published to be, below a folder of its name."""
    folder, truth = Path(dataset), made_truth(dataset)
    folder.mkdir(exist_ok=True)
    if dataset == "kinetics":
        rows = [
            f"{video.instances[0].label},{video.video_id[:-14]},417,427,{'val' if video.subset == 'validation' else 'train'}"
            for video in truth.videos
        ]
        (folder / "annotations").mkdir(exist_ok=True)
        (folder / "annotations" / "all.csv").write_text("\n".join(["label,youtube_id,time_start,time_end,split", *rows]))
    elif dataset == "multithumos":
        numbers = {"LongJump": 14, "21": 21}
        entries = {
            video.video_id: {
                "subset": video.subset,
                "duration": video.duration_s,
                "actions": [[numbers[found.label], found.start_s, found.end_s] for found in video.instances],
            }
            for video in truth.videos
        }
        (folder / "multithumos.json").write_text(json.dumps(entries))
    elif dataset.startswith("activitynet"):
        write_activitynet(truth, folder / f"activity_net.v1-{dataset[-1]}.min.json")
    else:
        write_thumos(
            GroundTruth(videos=tuple(replace(video, duration_s=None) for video in truth.videos)), folder / "annotations"
        )
    return truth


def write_features(folder: Path, truth: GroundTruth, dim: int, step_s: float) -> None:
    """As ``tal-run features`` lays them out, ActivityNet's with the prefix that its videos' files have."""
    folder.mkdir(parents=True, exist_ok=True)
    dice, labels = np.random.default_rng(0), truth.labels
    for video in truth.videos:
        assert video.duration_s is not None
        starts_s = np.arange(0, video.duration_s - 1e-6, step_s)
        data = dice.normal(0, 0.1, (len(starts_s), dim)).astype(np.float32)
        for found in video.instances:
            inside = (starts_s + step_s / 2 >= found.start_s) & (starts_s + step_s / 2 < found.end_s)
            data[inside, labels.index(found.label) :: 4] += 1
        prefix = "v_" if "_-4wOmHw" in video.video_id else ""
        np.savez(
            folder / f"{prefix}{video.video_id}.npz",
            features=np.maximum(data, 0),
            seconds=np.stack([starts_s, starts_s + step_s], axis=1),
            labels=np.array([], np.str_),
            multi_label=np.array(False),
        )


# a network that is 2048 wide in all its layers takes its time: the same layers, thin
THIN = {"ahernet": ("length=32", "stem=16,16", "widths=16,16,16,16", "moment_length=16", "batch_size=4")}


def prepared(experiment: Experiment, *, dim: int | None = None) -> set[str]:
    """Annotations and features for an experiment, here.

    Returns:
        The videos that it is tried on.
    """
    options, tried = experiment.features, experiment.test
    fps = 25.0 if options["fps"] == "native" else float(options["fps"])
    width, step_s = dim or EXTRACTORS[options["backbone"]].feature_dim, options["stride"] / fps
    for part in (experiment.train, experiment.moments, tried):
        if part:
            write_features(Path(feature_folder(experiment, part)), lay_out(part.dataset), width, step_s)
    truth = made_truth(tried.dataset)
    if "moment_classes" in experiment.extra:  # one action of two
        Path(experiment.extra["moment_classes"]).write_text(truth.labels[0] + "\n")
        truth = GroundTruth(videos=tuple(video for video in truth.videos if video.instances[0].label == truth.labels[0]))
    if tried.ground_truth:
        if tried.subset is None:
            truth = truth.subset("validation")
        write_activitynet(truth, Path(tried.ground_truth))
    return {video.video_id for video in truth.videos if tried.subset in (None, video.subset)}


@pytest.mark.usefixtures("one_thread")
class TestChain:
    """What is shown is typed, in a folder of made data sets, but for the videos and with two iterations."""

    @pytest.fixture(autouse=True)
    def _here(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)

    @pytest.mark.parametrize("experiment", [first for first in FIRSTS if not first.frames], ids=lambda found: found.name)
    def test_the_commands_lead_to_numbers(self, experiment: Experiment) -> None:
        # one in its real width; the others in a narrower one, to be quick
        tried = prepared(experiment, dim=None if experiment.name == "wsad-thumos14" else 64)
        settings = [word for setting in THIN.get(experiment.head, ()) for word in ("--config", setting)]
        (line,) = training_commands(experiment)
        result = run(*shlex.split(line)[1:], "--iterations", "4", *settings)
        assert result.exit_code == 0, result.stderr
        trained = load_head(f"{experiment.checkpoint}.safetensors")
        assert trained.recipe["experiment"] == experiment.checkpoint
        assert trained.recipe["dataset"] == experiment.train.dataset
        assert trained.recipe["subset"] == experiment.train.subset
        expected = configured(head_named(experiment.head), experiments()[experiment.checkpoint].config)
        thin = {setting.partition("=")[0] for setting in THIN.get(experiment.head, ())}
        for name, value in vars(trained.config).items():
            if name not in thin and name != "moment_classes" and not name.endswith("iterations"):
                assert value == getattr(expected, name), name

        judged = 0
        for line in result_commands(experiment):
            words = shlex.split(line)[1:]
            if words[0] == "eval":
                words += ["--json", "--bootstrap", "0"] if "--proposals" not in words else ["--json"]
            result = run(*words)
            assert result.exit_code == 0, result.stderr
            if words[0] == "eval":
                judged += 1
                report = json.loads(result.stdout)
                if "--proposals" in words:
                    assert 0 <= report["auc"] <= 1
                else:
                    assert report["videos"] == len(tried)
                    assert {f"{tiou:g}" for tiou in experiment.tious} >= set(report["map"])
                    assert all(0 <= value <= 1 for value in report["map"].values())
            else:
                found = json.loads(Path(words[-1]).read_text())
                assert set(found["results"]) == tried
                labels = {row["label"] for rows in found["results"].values() for row in rows}
                assert labels <= set(made_truth(experiment.test.dataset).labels)
        assert judged

    def test_moments_are_those_to_learn_from(self) -> None:
        # both data sets have videos of the subset that is asked for, and in one of them these are to be tried on
        experiment = experiments()["ahernet-anet-fg"]
        prepared(experiment, dim=8)
        settings = [word for setting in THIN["ahernet"] for word in ("--config", setting)]
        result = run(*shlex.split(training_commands(experiment)[0])[1:], "--iterations", "1", *settings)
        assert "learns 4 actions from 10 videos and 10 moments" in result.stderr
        labels = load_head("ahernet-anet-fg.safetensors").labels
        assert [labels[index] for index in load_head("ahernet-anet-fg.safetensors").config.moment_classes] == [
            *LAYOUTS["activitynet13"][0]
        ]

    def test_from_frames(self, make_video: Any) -> None:
        # the shell's part, and a network that a CPU can train
        experiment = experiments()["scnn-thumos14"]
        for video in lay_out("thumos14").videos[:2] + lay_out("thumos14").videos[-1:]:
            folder = DATASETS["thumos14"].videos[str(video.subset)][0]
            make_video(f"thumos14/{folder}/{video.video_id}.mp4", [("grey", 2.5), ("red", 4.0), ("grey", STEP_S * 20 - 6.5)])
        lists = Path("ucf101/ucfTrainTestlist")
        lists.mkdir(parents=True)
        (lists / "trainlist01.txt").write_text("LongJump/v_LongJump_g08_c01.avi 53\nYoYo/v_YoYo_g08_c01.avi 101\n")
        (lists / "testlist01.txt").write_text("TennisSwing/v_TennisSwing_g01_c01.avi\n")
        for name in ("LongJump/v_LongJump_g08_c01", "YoYo/v_YoYo_g08_c01", "TennisSwing/v_TennisSwing_g01_c01"):
            make_video(f"ucf101/{name}.mp4", [("red", 2.0)])
        thin = ("--trunk", "starter", "--config", "window_frames=160", "--iterations", "3", "--quiet")
        tiou, lines = 0.0, commands(experiment)
        for line in lines[:4] + lines[-2:]:  # the first overlap and the last
            if not line.startswith("tal-run"):
                subprocess.run(line, shell=True, check=True)
                continue
            words = [name for word in shlex.split(line)[1:] for name in (Path().glob(word) if "*" in word else [word])]
            result = run(*words, *{"train": thin, "eval": ("--json", "--bootstrap", "0")}.get(words[0], ("--quiet",)))
            assert result.exit_code == 0, result.stderr
            if words[0] == "train":
                assert load_head("scnn-thumos14.safetensors").labels == ("LongJump", "TennisSwing")
            elif words[0] == "detect":
                card = json.loads(Path(words[-1]).read_text())["external_data"]["head"]
                tiou = card["config"]["evaluation_tiou"]
            else:
                assert list(json.loads(result.stdout)["map"]) == [f"{tiou:g}"]
        assert tiou == 0.5

    @pytest.mark.parametrize("name", ["wsad-thumos14", "wsad-activitynet12"])
    def test_from_the_first_command_to_the_last(
        self, name: str, lesson: ModuleType, colours: str, make_video: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # actions are colours, and the network sees how near to which one it is, again and again
        sees = registry.EXTRACTORS[colours].__call__

        def near(self: Any, frames: Any, flow: Any = None) -> Any:
            _, logits = sees(self, frames, flow)
            return np.tile(np.exp(logits), 16).astype(np.float32), logits

        network = type("Near", (registry.EXTRACTORS[colours],), {"name": "i3d", "feature_dim": 64, "__call__": near})
        monkeypatch.setitem(registry.EXTRACTORS, "i3d", network)
        experiment = experiments()[name]
        truth, dataset = lay_out(experiment.train.dataset), experiment.train.dataset
        for video in truth.videos:
            (found,) = video.instances
            colour = ("red", "green")[truth.labels.index(found.label)]
            stretches = [("grey", found.start_s), (colour, found.end_s - found.start_s), ("grey", STEP_S * 20 - found.end_s)]
            folder = DATASETS[dataset].videos[str(video.subset)][0]
            make_video(f"{dataset}/{folder}/{'v_' if dataset == 'activitynet12' else ''}{video.video_id}.mp4", stretches)
        quick = lesson.texts(experiment.head, metric_loss="none")  # which a handful of videos do not need
        settings = [word for pair in quick.items() for word in ("--config", "=".join(pair))]
        for line in commands(experiment):
            words = shlex.split(line)[1:]
            result = run(*words, *{"train": settings, "eval": ("--json", "--bootstrap", "0")}.get(words[0], ()))
            assert result.exit_code == 0, result.stderr
        assert json.loads(result.stdout)["map"]["0.5"] > 0.9

    def test_what_is_given_wins_and_that_is_said(self) -> None:
        experiment = experiments()["autoloc-activitynet12"]
        prepared(experiment, dim=8)
        train = shlex.split(training_commands(experiment)[0])[1:]
        given = ("--config", "anchors=1,2", "--config", "leak=0.2", "--seed", "5", "--subset", "validation")
        result = run(*train, "--iterations", "2", *given)
        assert result.exit_code == 0
        said = "numbers of autoloc-activitynet12 (Shou, Gao, Zhang, Miyazawa & Chang, ECCV 2018 (AutoLoc)): "
        assert said + "anchors=1,2 (given), localization_iterations=4819, leak=0.2 (given)" in result.stderr
        assert "note: not quite autoloc-activitynet12, as --seed is given" in result.stderr
        assert "note: not quite autoloc-activitynet12, as --subset is given" in result.stderr
        assert "note: not quite autoloc-activitynet12, as --iterations is given" in result.stderr
        trained = load_head("autoloc-activitynet12.safetensors")
        assert (trained.config.anchors, trained.config.leak, trained.recipe["seed"]) == ((1, 2), 0.2, 5)
        assert (trained.recipe["subset"], trained.recipe["videos"]) == ("validation", 2)

    def test_a_data_set_by_its_name_has_the_papers_numbers(self) -> None:
        experiment = experiments()["autoloc-activitynet12"]
        prepared(experiment, dim=8)
        features = feature_folder(experiment, experiment.train)
        common = ("train", "--head", "autoloc", "--features", features, "--iterations", "2")
        result = run(*common, "--dataset", "activitynet12", "-o", "named.safetensors")
        assert "numbers of autoloc-activitynet12" in result.stderr
        assert load_head("named.safetensors").config.anchors == (16, 32, 64, 128, 256, 512)
        path = "activitynet12/activity_net.v1-2.min.json"
        result = run(*common, "--annotations", path, "-o", "nameless.safetensors")
        assert "numbers of" not in result.stderr
        assert load_head("nameless.safetensors").config.anchors == autoloc.AutoLocConfig().anchors

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (("--experiment", "wsad"), "there is no experiment 'wsad'"),
            (("--experiment", "wsad-thumos14", "--head", "wtalc"), "leave out --head wtalc"),
            (("--experiment", "wsad-thumos14"), "there is no folder thumos14"),
            (("--dataset", "thumos14"), "say what is to learn: --head"),
            (("--experiment", "scnn-thumos14"), "learns from frames: give --videos"),
        ],
    )
    def test_what_cannot_be_done_is_a_sentence(self, arguments: tuple[str, ...], said: str) -> None:
        result = run("train", "--features", "f", "-o", "o.safetensors", *arguments)
        assert (result.exit_code, said in result.stderr) == (2, True), result.stderr
