"""The commands about weights tell apart what is here, what is damaged and what is missing; the doctor names cures."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tal_run.extractors import registry, weights
from tal_run.extractors.errors import TalRunError
from tal_run.extractors.weights import WeightsFile, sha256_of, state_of
from tal_run.pipeline import doctor
from tal_run.pipeline.cli import main


class _Backbone:
    name = "toy"
    knows = "nothing"
    published: dict[str, str] = {}  # noqa: RUF012
    files: tuple[WeightsFile, ...] = ()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where weights are looked for, and a backbone ``toy`` with two files: one of known bytes, one that has to be pinned."""
    monkeypatch.setenv("TAL_RUN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TAL_RUN_WEIGHTS", str(tmp_path))
    right = tmp_path / "right.bin"
    right.write_bytes(b"right")
    known = WeightsFile(file_name="known.bin", url=right.as_uri(), sha256=sha256_of(right), licence="MIT", size_bytes=5)
    loose = WeightsFile(file_name="loose.bin", url=None, source="a shelf", licence="MIT")
    right.rename(tmp_path / "elsewhere")
    monkeypatch.setattr(_Backbone, "files", (known, loose))
    monkeypatch.setitem(registry.EXTRACTORS, "toy", _Backbone)  # type: ignore[arg-type]
    return tmp_path


def run(*arguments: Any) -> Result:
    return CliRunner().invoke(main, ["weights", *map(str, arguments)])


def _listed() -> str:
    rows = {name: state for name, state, _ in (line.split("\t") for line in run("list").stdout.splitlines())}
    return rows["toy"]


def test_what_is_missing_damaged_unknown_or_here(folder: Path) -> None:
    assert _listed() == "to be put into place by hand"
    (folder / "known.bin").write_bytes(b"wrong")
    assert _listed().startswith("damaged")
    result = run("verify", "toy")
    assert result.exit_code == 1
    assert f"{folder / 'known.bin'}: sha256" in result.stderr
    (folder / "known.bin").write_bytes(b"right")
    (folder / "loose.bin").write_bytes(b"whatever")
    assert _listed() == "here, no checksum known"
    assert "not pinned yet" in run("verify", "toy").stdout
    (pin,) = [file for file in _Backbone.files if file.sha256 is None]
    weights.pin(pin, sha256_of(folder / "loose.bin"))
    assert _listed() == "here"
    (folder / "loose.bin").write_bytes(b"other")
    assert state_of(pin).path is None  # not what was first had
    assert run("verify", "toy").exit_code == 1


def test_path_prints_what_is_here_and_says_what_is_not(folder: Path) -> None:
    (folder / "known.bin").write_bytes(b"right")
    result = run("path", "toy")
    assert (result.exit_code, result.stdout) == (1, f"{folder / 'known.bin'}\n")
    assert "get it from a shelf and put it into" in result.stderr
    (folder / "loose.bin").write_bytes(b"x")
    result = run("path", "toy")
    assert (result.exit_code, result.stdout.splitlines()) == (0, [str(folder / "known.bin"), str(folder / "loose.bin")])


def test_pull_fetches_and_goes_on_after_what_cannot_be_had(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "elsewhere").rename(folder / "right.bin")
    monkeypatch.setenv("TAL_RUN_WEIGHTS", "")
    monkeypatch.setattr(_Backbone, "files", _Backbone.files[:1])
    result = run("pull", "toy", "starter")
    assert result.exit_code == 0, result.stderr
    assert (folder / "cache" / "weights" / "known.bin").read_bytes() == b"right"
    (folder / "cache" / "weights" / "known.bin").unlink()
    (folder / "right.bin").write_bytes(b"wrong")
    result = run("pull", "toy", "starter")
    assert result.exit_code == 1
    assert "other bytes than expected" in result.stderr
    assert "starter: comes with tal-run" in result.stderr


@pytest.mark.parametrize("command", [("pull", "i4d"), ("path", "i4d"), ("verify", "i4d")])
def test_a_name_that_is_none_lists_the_choices(command: tuple[str, ...]) -> None:
    result = run(*command)
    assert result.exit_code == 2
    assert "choose one of i3d," in result.stderr


@pytest.fixture
def few_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that take time stand aside."""
    for name in ("_decoding", "_flow", "_watching"):
        monkeypatch.setattr(doctor, name, lambda: iter(()))


@pytest.mark.usefixtures("few_checks")
def test_the_doctor_goes_on_and_names_the_cure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> Iterator[doctor.Finding]:
        raise TalRunError("the flow is gone: bring it back")

    def unforeseen() -> Iterator[doctor.Finding]:
        raise KeyError("x")

    monkeypatch.setattr(doctor, "_flow", broken)
    monkeypatch.setattr(doctor, "_decoding", unforeseen)
    monkeypatch.setenv("TAL_RUN_WEIGHTS", str(tmp_path / "nowhere"))
    monkeypatch.setenv("TAL_RUN_CACHE", str(tmp_path / "cache"))
    result = CliRunner().invoke(main, ["doctor", "--json"])
    assert result.exit_code == 1
    found = {(entry["what"], entry["state"]): entry for entry in json.loads(result.stdout)}
    assert found["optical flow", "wrong"]["found"] == "the flow is gone: bring it back"
    assert found["decoding", "wrong"]["found"] == "KeyError: 'x'"
    assert "nowhere, which is no folder" in found["weights", "wrong"]["found"]
    assert found["weights", "note"]["cure"] == "tal-run weights pull movinet-a0-stream"
    assert ("cache", "good") in found
    shown = CliRunner().invoke(main, ["doctor"])
    assert "WRONG\toptical flow\tthe flow is gone" in shown.stdout
    assert "cache" in shown.stdout


@pytest.mark.usefixtures("few_checks")
def test_the_doctor_is_content_where_nothing_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAL_RUN_WEIGHTS", "")
    monkeypatch.setenv("TAL_RUN_CACHE", str(tmp_path / "not" / "there" / "yet"))
    assert CliRunner().invoke(main, ["doctor"]).exit_code == 0
    assert not list(tmp_path.iterdir())  # it only looks


def test_the_doctor_decodes(monkeypatch: pytest.MonkeyPatch) -> None:
    found = list(doctor._decoding())
    assert {finding.what for finding in found} >= {"decoder pyav"}
    assert all(finding.state == "good" for finding in found)
