"""``tal-run detect --features``: a trained head over stored features."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from click.testing import CliRunner, Result

torch = pytest.importorskip("torch")
from tal_run.extractors.feature_files import FeatureFolder  # noqa: E402
from tal_run.models import Detection  # noqa: E402
from tal_run.models.head import head_named, load_head  # noqa: E402
from tal_run.pipeline import outputs  # noqa: E402
from tal_run.pipeline.cli import main  # noqa: E402
from tal_run.pipeline.feature_detection import SOUGHT_BY  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")

HEAD = "head.safetensors"


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], catch_exceptions=False)


def detect(*arguments: str, target: str = "found.json") -> Result:
    return run("detect", "--checkpoint", HEAD, "--features", "others", "-o", target, *arguments)


@pytest.fixture(scope="module")
def taught(lesson: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with W-TALC's head, which knows the made actions, and features of videos that it has not seen."""
    folder = tmp_path_factory.mktemp("taught")
    features, truth = lesson.written(folder)
    settings = [
        word for pair in lesson.texts("wtalc").items() if pair[0] != "iterations" for word in ("--config", "=".join(pair))
    ]
    head = folder / HEAD
    command = ["train", "--head", "wtalc", "--features", features, "--annotations", truth, "-o", head, "--iterations", 60]
    assert run(*map(str, command), *settings, "--quiet").exit_code == 0
    arrays, truths = lesson.made(5, seed=3)
    lesson.write_features(folder / "others", arrays)
    lesson.write_activitynet(truths, folder / "others.json")
    return folder


@pytest.fixture
def case(taught: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same with features of one's own to spoil."""
    import shutil

    shutil.copytree(taught, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("case")
class TestDetect:
    def test_finds_in_every_video_what_the_head_finds(self) -> None:
        result = detect()
        assert result.exit_code == 0
        trained, folder = load_head(HEAD), FeatureFolder("others")
        expected = {name: trained.localize(folder.read(name)) for name in folder.video_ids}
        document = json.loads(Path("found.json").read_text())
        assert sum(map(len, expected.values())) > 0
        for name, found in expected.items():
            rows = [(row["label"], *row["segment"], row["score"]) for row in document["results"][name]]
            assert rows == [(d.label, round(d.start_s, 3), round(d.end_s, 3), round(d.score, 6)) for d in found]
        assert f"found.json: {sum(map(len, expected.values()))} detections in 5 videos" in result.stderr
        assert document["external_data"]["head"]["name"] == "wtalc"

    def test_what_it_learnt_is_found_and_evaluated(self) -> None:
        detect()
        result = run(
            "eval", "--ground-truth", "others.json", "--detections", "found.json", "--protocol", "activitynet", "--json"
        )
        assert json.loads(result.stdout)["map"]["0.5"] > 0.9

    def test_formats_hold_the_same(self) -> None:
        for target in ("found.json", "found.jsonl", "found.csv"):
            assert detect(target=target).exit_code == 0
        rows = [json.loads(line) for line in Path("found.jsonl").read_text().splitlines()]
        assert [",".join(map(str, row.values())) for row in rows] == Path("found.csv").read_text().splitlines()[1:]
        document = json.loads(Path("found.json").read_text())["results"]
        assert [(row["video_id"], row["score"]) for row in rows] == [
            (name, row["score"]) for name, found in document.items() for row in found
        ]

    def test_of_the_videos_that_are_named_only(self) -> None:
        assert detect("video03", "video01").exit_code == 0
        assert list(json.loads(Path("found.json").read_text())["results"]) == ["video03", "video01"]
        result = detect("video03", "video99")
        assert "left out 1 videos that have no features: video99" in result.stderr
        result = detect("video99")
        assert (result.exit_code, "no features of any of the 1 videos asked for" in result.stderr) == (2, True)

    def test_a_damaged_video_costs_a_sentence(self) -> None:
        Path("others/video02.npz").write_bytes(b"spoilt")
        np.savez("others/video03.npz", features=np.zeros((9, 5), np.float32), seconds=np.arange(18.0).reshape(9, 2))
        result = detect()
        assert result.exit_code == 1
        assert result.stderr.count("Error:") == 2
        assert "video02" in result.stderr
        assert "video03" in result.stderr
        assert list(json.loads(Path("found.json").read_text())["results"]) == ["video00", "video01", "video04"]

    @pytest.mark.parametrize("before", [None, "{}"])
    def test_if_every_video_fails_what_was_there_stays(self, before: str | None) -> None:
        for path in Path("others").glob("*.npz"):
            path.write_bytes(b"spoilt")
        if before is not None:
            Path("found.json").write_text(before)
        result = detect()
        assert (result.exit_code, result.stderr.count("Error:")) == (1, 5)
        assert "nothing was written to found.json" in result.stderr
        assert (Path("found.json").read_text() if Path("found.json").exists() else None) == before

    def test_thresholds_can_be_changed_and_others_not(self) -> None:
        detect("--config", "min_snippets=100")
        assert not any(json.loads(Path("found.json").read_text())["results"].values())
        result = detect("--config", "dropout=0.1")
        assert (result.exit_code, "choose among k_divisor, class_threshold" in result.stderr) == (2, True)
        result = detect("--config", "min_snippets=0")
        assert (result.exit_code, "wtalc cannot seek with min_snippets=0: k_div" in result.stderr) == (2, True)

    def test_low_scores_are_left_out(self) -> None:
        detect()
        every = [row["score"] for found in json.loads(Path("found.json").read_text())["results"].values() for row in found]
        middle = float(np.mean(sorted(every)[len(every) // 2 :][:2]))  # between two, as they are rounded
        detect("--min-score", str(middle))
        left = [row["score"] for found in json.loads(Path("found.json").read_text())["results"].values() for row in found]
        assert sorted(left) == sorted(score for score in every if score >= middle)
        assert 0 < len(left) < len(every)

    def test_where_bare_features_lie_in_time_is_said(self, lesson: ModuleType) -> None:
        detect()
        folder = FeatureFolder("others")
        arrays = {name: folder.read(name).data for name in folder.video_ids}
        Path("bare").mkdir()
        for name, data in arrays.items():
            np.save(f"bare/{name}.npy", data)
        sampling = ("--fps", "10", "--window", "5", "--stride", "5")
        assert run("detect", "--checkpoint", HEAD, "--features", "bare", "-o", "bare.json", *sampling).exit_code == 0
        one, other = (json.loads(Path(name).read_text())["results"] for name in ("found.json", "bare.json"))
        assert one == other

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (("--query", "jump"), "leave out --query"),
            (("--backbone", "i3d"), "leave out --backbone"),
            (("--fps", "native"), "give --fps a number"),
            (("--fps", "25"), "give all or none"),
            (("-o", "second.json"), "one -o FILE"),
            (("--format", "html"), "written as json, jsonl, csv"),
            (("--experiment", "wsad-thumos15"), "no experiment 'wsad-thumos15'"),
            (("--experiment", "wsad-thumos14"), "no folder thumos14"),
        ],
    )
    def test_what_cannot_be_done_is_a_sentence(self, arguments: tuple[str, ...], said: str) -> None:
        result = detect(*arguments)
        assert (result.exit_code, said in result.stderr) == (2, True), result.stderr
        assert not Path("found.json").exists()

    def test_what_belongs_together(self) -> None:
        result = run("detect", "--features", "others", "-o", "found.json")
        assert (result.exit_code, "give --checkpoint" in result.stderr) == (2, True)
        result = run("detect", "a.mp4", "--experiment", "wsad-thumos14")
        assert (result.exit_code, "go with --features" in result.stderr) == (2, True)
        result = run("detect")
        assert (result.exit_code, "Missing argument 'VIDEO|FOLDER...'" in result.stderr) == (2, True)

    def test_the_head_of_another_method_is_refused(self) -> None:
        Path("thumos14").mkdir()
        Path("thumos14/LongJump_test.txt").write_text("video00 1 2\n")
        result = detect("--experiment", "wsad-thumos14", "--data", "thumos14")
        assert (result.exit_code, "an experiment with wsad, and head.safetensors holds wtalc" in result.stderr) == (2, True)


@pytest.mark.parametrize("count", [0, 1, 3])
@pytest.mark.parametrize("format_name", outputs.STREAMED)
def test_pieces_are_the_whole(format_name: str, count: int) -> None:
    found = Detection(1.25, 2.5, 'a "label",\n }, of {\n  lines', 0.5)
    results = {f'v{number}"\n }},': [found] * number for number in range(count)}
    made_by = {"results": {}, "head": {"name": "x"}}
    pieces = list(outputs.pieces(format_name, iter(results.items()), made_by))
    assert "".join(pieces) == outputs.rendered(format_name, results, made_by)
    assert len(pieces) > count


def test_thresholds_are_fields_of_their_heads() -> None:
    for name, sought in SOUGHT_BY.items():
        assert set(sought) <= {*head_named(name).config.__dataclass_fields__}
