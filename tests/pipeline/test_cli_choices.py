"""Whatever has a name on the command line is asked after where it is misspelt, in one sentence and with status 2."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from tal_run.pipeline.cli import main
from tal_run.pipeline.query import match_query

DETECTIONS = "video_id,label,start_s,end_s,score\na,long jump,1,2,0.5\na,diving,3,4,0.5\n"


@pytest.mark.parametrize(
    ("arguments", "likely"),
    [
        (["dtect", "a.mp4"], "'detect'"),
        (["weights", "lst"], "'list'"),
        (["detect", "--qury", "x"], "'--query'"),
        (["convert", "x.csv", "-o", "y", "--lable", "z"], "'--label'"),
        (["detect", "a.csv", "--backbone", "i3r"], "'i3d'"),
        (["features", "a.csv", "-o", "out", "--backbone", "movinet"], "'movinet-a0-stream'"),
        (["weights", "pull", "slowfast"], "'slowfast_r50'"),
        (["detect", "a.csv", "--format", "jsn"], "'json'"),
        (["convert", "a.csv", "-o", "y", "--format", "labelstudio"], "'label-studio'"),
        (["detect", "a.csv", "--decoder", "deccord"], "'decord'"),
        (["features", "a.csv", "-o", "out", "--layout", "ActionFormers"], "'actionformer'"),
        (["features", "--dataset", "thumos", "-o", "out"], "'thumos14'"),
        (["datasets", "check", "kinetic"], "'kinetics'"),
        (["train", "--head", "wtlc", "-o", "x"], "'wtalc'"),
        (["train", "--experiment", "wsad-thumos", "--features", ".", "-o", "x"], "'wsad-thumos14'"),
        (["experiments", "show", "wtalc_thumos14"], "'wtalc-thumos14'"),
        (["eval", "--ground-truth", "a.csv", "--detections", "a.csv", "--protocol", "activity-net"], "'activitynet'"),
        (["convert", "a.csv", "-o", "b.json", "--label", "LongJmp"], "'long jump'"),
        (["clips", "a.csv", "-o", "cut", "--label", "dving"], "'diving'"),
        (["report", "a.csv", "-o", "b.html", "--label", "long-jump"], "'long jump'"),
        (["detect", "a.cvs"], "a.csv"),
        (["datasets", "synthesize", "made", "--look", "stret"], "'street'"),
    ],
)
def test_what_was_meant_is_asked(arguments: list[str], likely: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.csv").write_text(DETECTIONS)
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code in (1, 2), result.output
    said = result.stderr.lower()
    assert "did you mean" in said
    assert likely in said.partition("did you mean")[2].partition("?")[0]
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]


LABELS = ("long jump", "flipping pancake", "diving", "arm wrestling")


@pytest.mark.parametrize(
    ("query", "meant"),
    [
        ("arm wresling", "arm wrestling"),  # a class
        ("pancke", "pancake"),  # a word of one
        ("tossing pancke", "tossing pancake"),  # what is right stays
        ("lng jmp", "long jump"),
        ("diving", ""),
        ("xyzzy", ""),
        ("tossing", ""),  # a word that is known, if no class's
    ],
)
def test_a_query_with_unknown_words_is_asked_after(query: str, meant: str) -> None:
    match = match_query(query, LABELS)
    assert match.meant == meant
    assert (f'did you mean "{meant}"?' in match.summary()) == bool(meant)


def test_looks_are_those_that_there_are() -> None:
    from tal_run.eval.synthetic import LOOKS
    from tal_run.pipeline.cli_datasets import LOOK_NAMES

    assert tuple(LOOKS) == LOOK_NAMES
