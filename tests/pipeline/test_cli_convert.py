"""`tal-run convert`: from files to files, choosing, joining, one a video; and what `detect` writes in the same forms."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tal_run.models import Detection
from tal_run.pipeline.cli import main
from tal_run.pipeline.cli_convert import Rate
from tal_run.pipeline.formats import FORMATS
from tal_run.pipeline.outputs import rendered

TIMELINE = [("grey", 4.0), ("red", 6.0), ("grey", 2.0)]


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def found(tmp_path: Path) -> Path:
    """Two videos, one in a folder; the first one's rate is known."""
    path = tmp_path / "found.json"
    results = {
        "a": [Detection(1.0, 2.0, "x y", 0.9), Detection(1.5, 3.0, "x y", 0.5), Detection(5.0, 6.0, "z", 0.3)],
        "in/b": [Detection(0.5, 1.5, "z", 0.7)],
    }
    card = {"backbone": {"name": "n"}, "videos": {"a": {"fps": "30000/1001", "size": [64, 48], "file": "a.mp4"}}}
    path.write_text(rendered("json", results, card))
    return path


def test_what_is_converted_there_and_back_is_the_same(found: Path, tmp_path: Path) -> None:
    for name in ("jsonl", "csv"):
        assert run("convert", found, "-o", tmp_path / f"x.{name}").exit_code == 0
        assert run("convert", tmp_path / f"x.{name}", "-o", tmp_path / "back.json").exit_code == 0
        assert json.loads((tmp_path / "back.json").read_text())["results"] == json.loads(found.read_text())["results"]
    assert run("convert", found, "-o", tmp_path / "same.json").exit_code == 0
    assert (tmp_path / "same.json").read_text() == found.read_text()  # and all that made them


@pytest.mark.parametrize(
    ("options", "left"),
    [
        (["--min-score", "0.5"], {"a": 2, "in/b": 1}),
        (["--top", "1"], {"a": 1, "in/b": 1}),
        (["--label", "z"], {"a": 1, "in/b": 1}),
        (["--label", "z", "--label", "x y", "--min-score", "0.8"], {"a": 1, "in/b": 0}),
    ],
)
def test_what_is_chosen(options: list[str], left: dict[str, int], found: Path, tmp_path: Path) -> None:
    assert run("convert", found, "-o", tmp_path / "x.json", *options).exit_code == 0
    written = json.loads((tmp_path / "x.json").read_text())["results"]
    assert {name: len(entries) for name, entries in written.items()} == left


def test_several_files_become_one(found: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    other = tmp_path / "in" / "c.json"
    other.write_text(
        rendered("json", {"c": [Detection(0, 1, "q", 0.5)]}, {"backbone": {"name": "m"}, "videos": {"c": {"fps": "25"}}})
    )
    assert run("convert", found, other, "-o", tmp_path / "all.json").exit_code == 0
    joined = json.loads((tmp_path / "all.json").read_text())
    assert list(joined["results"]) == ["a", "in/b", "c"]
    assert joined["external_data"]["videos"]["c"] == {"fps": "25"}
    assert joined["external_data"]["sources"]["c.json"] == {"backbone": {"name": "m"}}
    result = run("convert", tmp_path / "all.json", "-o", f"{tmp_path}/edls/", "--format", "edl", "--fps", "25")
    assert result.exit_code == 0, result.stderr


def test_several_files_need_a_folder_and_get_one(found: Path, tmp_path: Path) -> None:
    result = run("convert", found, "-o", tmp_path / "out", "--format", "srt")
    assert result.exit_code == 0, result.stderr
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.srt", "in-b.srt"]
    assert run("convert", found, "-o", tmp_path / "all", "--format", "json").exit_code == 0
    assert (tmp_path / "all").is_file()  # one is enough


@pytest.mark.parametrize("name", FORMATS)
def test_a_folder_gets_a_file_for_each_video(name: str, found: Path, tmp_path: Path) -> None:
    target = f"{tmp_path}/out/"
    options = ["--fps", "25"] if FORMATS[name].counts_frames else []
    if name == "cvat":
        found.write_text(found.read_text().replace('"size"', '"width"'))
        assert "need the size of a" in run("convert", found, "-o", target, "--format", name, *options).stderr
        return
    result = run("convert", found, "-o", target, "--format", name, *options)
    assert result.exit_code == 0, result.stderr
    ending = FORMATS[name].ending
    second = FORMATS[name].companion
    expected = [f"a{ending}", f"in-b{ending}"] + ([f"a{second[0]}", f"in-b{second[0]}"] if second else [])
    assert sorted(path.name for path in Path(target).iterdir()) == sorted(expected)
    assert "2 files" in result.stderr or second


def test_the_rate_is_known_from_the_file_the_video_or_the_person(found: Path, make_video: Any, tmp_path: Path) -> None:
    def first_event(*options: object) -> str:
        result = run("convert", found, "--label", "x y", "-o", f"{tmp_path}/out/", "--format", "edl", *options)
        assert result.exit_code == 0, result.stderr
        return (tmp_path / "out" / "a.edl").read_text().split("\n")[8].split()[4]

    document = json.loads(found.read_text())
    del document["results"]["in/b"]
    found.write_text(json.dumps(document))
    assert first_event() == "00:00:01:15"  # 1.5 s at 30000/1001: frame 45
    assert first_event("--fps", "50") == "00:00:01:25"
    del document["external_data"]["videos"]["a"]["fps"]
    found.write_text(json.dumps(document))
    make_video("a.mp4", [("grey", 8.0)], rate=20)
    assert first_event() == "00:00:01:10"


def test_frames_at_uneven_times_are_said(found: Path, make_video: Any, tmp_path: Path) -> None:
    document = json.loads(found.read_text())
    document["results"] = {"c": document["results"]["a"]}
    found.write_text(json.dumps(document))
    make_video("c.mp4", [("grey", 8.0)], times=[0.1 * k * k for k in range(9)])
    result = run("convert", found, "-o", tmp_path / "c.edl")
    assert result.exit_code == 0, result.stderr
    assert "uneven times" in result.stderr
    assert "uneven times" not in run("convert", found, "-o", tmp_path / "c.srt").stderr


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("25", 25),
        ("29.97", Fraction(30000, 1001)),
        ("23.976", Fraction(24000, 1001)),
        ("23.98", Fraction(24000, 1001)),
        ("59.94", Fraction(60000, 1001)),
        ("30000/1001", Fraction(30000, 1001)),
        ("12.5", Fraction(25, 2)),
        ("24.99", Fraction("24.99")),
    ],
)
def test_rates_are_taken_as_they_are_meant(text: str, rate: Fraction) -> None:
    assert Rate().convert(text, None, None) == rate


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-o", "x.srt"], "folder/ --format srt"),
        (["-o", "x.edl"], "holds one video"),
        (["-o", "x.html"], "tal-run report"),
        (["-o", "x.xyz"], "no ending that names a format"),
        (["-o", "there/"], "say in which form"),
        (["-o", "out/", "--format", "edl"], "--fps 30000/1001"),
        (["-o", "x.label-studio.json", "--fps", "0"], "above 0"),
        (["-o", "x.label-studio.json", "--fps", "1/0"], "no number of frames"),
        (["-o", "x.csv", "--label", "q"], "nothing here has the label 'q': choose one of x y, z"),
        (["-o", "x.csv", "--video", "absent.mp4"], "check --video"),
        (["-o", "absent/x.csv"], "create it first"),
        (["-o", "x.mp4", "--format", "csv"], "would be overwritten"),
        (["-o", "x.txt", "--top", "0"], "Invalid value"),
    ],
)
def test_wrong_use_is_a_sentence(
    arguments: list[str], words: str, found: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    result = run("convert", found, *arguments)
    assert (result.exit_code, words in result.stderr) == (2, True), result.stderr
    assert sorted(path for path in tmp_path.rglob("*") if path.name != "out") == before


def test_the_detections_are_never_overwritten(found: Path) -> None:
    before = found.read_bytes()
    assert run("convert", found, "-o", found, "--top", "1").exit_code == 2
    assert found.read_bytes() == before
    # nor by a file whose name nobody gave
    labels = found.with_name("a.labels.json")
    labels.write_bytes(before)
    assert run("convert", labels, "-o", found.with_name("a.xml"), "--fps", "25", "--label", "x y").exit_code == 2
    one = found.with_name("results") / "b.json"
    one.parent.mkdir()
    one.write_text(rendered("json", {"b": [Detection(0, 1, "x", 0.5)]}))
    content = one.read_bytes()
    for given in (one, one.parent):
        result = run("convert", given, "-o", f"{one.parent}/", "--format", "json", "--min-score", "0.9")
        assert result.exit_code == 2
        assert "would be overwritten" in result.stderr
    assert (labels.read_bytes(), one.read_bytes()) == (before, content)


# ---- detect ----


def test_detect_writes_every_form(colours: str, make_video: Any, tmp_path: Path) -> None:
    video = make_video("bout.mp4", TIMELINE)
    targets = [tmp_path / f"x{form.ending}" for form in FORMATS.values()]
    result = run("detect", video, "-q", "arm wrestling", *(word for target in targets for word in ("-o", target)))
    assert result.exit_code == 0, result.stderr
    assert all(target.read_text(encoding="utf-8") for target in targets)
    assert "arm wrestling (0." in (tmp_path / "x.srt").read_text()
    assert 'RELATIVE_MEDIA_URL="./bout.mp4"' in (tmp_path / "x.eaf").read_text()
    assert json.loads((tmp_path / "x.labels.json").read_text())[0]["name"] == "arm wrestling"
    assert "<Label" in (tmp_path / "x.config.xml").read_text()
    card = json.loads((tmp_path / "x.json").read_text())["external_data"]["videos"]["bout"]
    assert (card["fps"], card["size"]) == ("25", [64, 48])


def test_detect_finds_out_before_watching_that_a_form_holds_one_video(colours: str, make_video: Any, tmp_path: Path) -> None:
    videos = [make_video(f"{name}.mp4", TIMELINE) for name in "ab"]
    for arguments in (["-o", tmp_path / "x.srt"], ["--format", "edl"]):
        result = run("detect", *videos, *arguments)
        assert result.exit_code == 2
        assert "holds one video, and there are 2" in result.stderr


def test_what_a_form_cannot_hold_costs_only_that_file(colours: str, make_video: Any, tmp_path: Path) -> None:
    video = make_video("a bout.mp4", TIMELINE)  # a space, which THUMOS's text has no place for
    result = run("detect", video, "-q", "arm wrestling", "-o", tmp_path / "x.txt", "-o", tmp_path / "x.srt")
    assert result.exit_code == 1
    assert "no place for it" in result.stderr
    assert (tmp_path / "x.srt").exists()
    assert not (tmp_path / "x.txt").exists()
