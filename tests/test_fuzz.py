"""The tool behind `make fuzz`: it does the same damage again for the same number, and sees what it is for; and a few files."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from types import ModuleType
from typing import Any

import pytest

from tal_run.extractors.errors import TalRunError
from tal_run.extractors.video import VideoError

TOOLS = Path(__file__).parent / "tools"


def loaded(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(TOOLS))
    spec = importlib.util.spec_from_file_location(name, TOOLS / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)  # its dataclasses look themselves up
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def mutate(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return loaded("mutate", monkeypatch)


@pytest.fixture
def fuzz(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return loaded("fuzz", monkeypatch)


@pytest.fixture
def videos(monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[bytes, str]]:
    corpus = loaded("corpus", monkeypatch)
    pictures = [frame.to_ndarray(format="rgb24") for frame in corpus._frames(corpus.REAL)]
    return {
        name: (corpus.made(pictures, form, codec, **more), ".mp4")
        for name, (form, codec, more) in corpus.MADE.items()
        if name in ("mp4-h264-sound", "mkv-vp9", "avi-mpeg4", "ts-mpeg2", "mp4-h264-fragments")
    }


class TestDamage:
    def test_the_same_number_does_the_same(self, mutate: ModuleType, videos: dict[str, tuple[bytes, str]]) -> None:
        for name, (content, _) in videos.items():
            first = [mutate.mutated(content, Random(f"{name}/{case}")) for case in range(40)]
            again = [mutate.mutated(content, Random(f"{name}/{case}")) for case in range(40)]
            assert first == again
            assert sum(data != content for data, _ in first) > 35
            assert len({data for data, _ in first}) > 35

    def test_each_kind_damages_each_container(self, mutate: ModuleType, videos: dict[str, tuple[bytes, str]]) -> None:
        for name, mutation in mutate.MUTATIONS.items():
            for base, (content, _) in videos.items():
                damaged = [mutation(content, Random(f"{base}/{case}")) for case in range(12)]
                assert any(data != content for data in damaged), (name, base)
                assert all(isinstance(data, bytes) for data in damaged)

    def test_it_takes_anything(self, mutate: ModuleType) -> None:
        for content in (b"", b"\0", b"ftyp", b"\0\0\0\x08ftyp", b"\x1aE\xdf\xa3", b"RIFF", b"G" * 1000, bytes(1000)):
            for case in range(100):
                mutate.mutated(content, Random(case), [b"\0\0\0\x08ftyp", b""])

    def test_files_are_taken_apart(self, mutate: ModuleType, videos: dict[str, tuple[bytes, str]]) -> None:
        boxes = {part.kind for part in mutate.parts_of(videos["mp4-h264-sound"][0])}
        assert {b"ftyp", b"moov", b"trak", b"stts", b"stsz", b"stco", b"avcC", b"dref", b"url ", b"mdat"} <= boxes
        assert {b"moof", b"traf", b"trun"} <= {part.kind for part in mutate.parts_of(videos["mp4-h264-fragments"][0])}
        elements = {part.kind.hex() for part in mutate.parts_of(videos["mkv-vp9"][0])}
        assert {"1a45dfa3", "18538067", "2ad7b1", "b0", "1f43b675", "a3"} <= elements  # to the time scale, width and blocks
        chunks = {part.kind for part in mutate.parts_of(videos["avi-mpeg4"][0])}
        assert {b"RIFF", b"avih", b"strh", b"00dc", b"idx1"} <= chunks
        assert mutate.is_ts(videos["ts-mpeg2"][0])

    def test_what_is_removed_is_gone_and_the_sizes_around_it_are_right(
        self, mutate: ModuleType, videos: dict[str, tuple[bytes, str]]
    ) -> None:
        content = videos["mp4-h264-sound"][0]
        part = next(part for part in mutate.parts_of(content) if part.kind == b"stss")
        without = mutate._exchanged(content, part, b"", is_told=True)
        assert len(without) == len(content) - (part.end - part.start)
        kinds = [other.kind for other in mutate.parts_of(content) if other.kind != b"stss"]
        assert [other.kind for other in mutate.parts_of(without)] == kinds


def _raise(error: BaseException) -> Any:
    raise error


class TestJudgement:
    """What it must call a finding, and what not."""

    @pytest.mark.parametrize(
        "read",
        [
            lambda: _raise(KeyError("width")),
            lambda: _raise(MemoryError()),
            lambda: _raise(AssertionError()),
            lambda: time.sleep(5),
            lambda: _raise(VideoError("a.mp4 cannot be decoded (AttributeError: no width); fetch it again")),
            lambda: _raise(VideoError("a.mp4 cannot be read ([Errno 5] Input/output error); check the disk")),
            lambda: _raise(TalRunError("a.mp4 is damaged")),
            lambda: _raise(TalRunError("a.mp4 failed; please report this to the authors")),
            lambda: _raise(TalRunError("")),
        ],
    )
    def test_a_finding(self, fuzz: ModuleType, read: Callable[[], Any]) -> None:
        assert fuzz.judged(read, budget_s=0.2).kind == fuzz.FINDING

    def test_a_sentence_is_none(self, fuzz: ModuleType) -> None:
        outcome = fuzz.judged(lambda: _raise(VideoError("a.mp4 is empty (0 bytes), so the download failed; fetch it again")))
        assert outcome.kind == fuzz.REFUSED

    def test_a_video_that_a_batch_says_nothing_of(self, fuzz: ModuleType, tmp_path: Path) -> None:
        for name in ("in/a.mp4", "in/b.mp4", "in/c.mp4", "out/a.npz"):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).touch()
        said = "Error: in/b.mp4 is empty (0 bytes), so the download failed; fetch it again\n"
        assert fuzz.check_accounts(tmp_path / "in", tmp_path / "out", said) == ["c.mp4 is not accounted for"]


def test_a_few_files_of_each_kind(tmp_path: Path) -> None:
    for what, files in (("videos", 60), ("readers", 100)):
        done = subprocess.run(
            [sys.executable, str(TOOLS / "fuzz.py"), what, "--files", str(files), "--seed", "test", "-o", str(tmp_path)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
    entries = [json.loads(line) for line in (tmp_path / "videos.jsonl").read_text().splitlines()]
    assert [entry["case"] for entry in entries] == list(range(60))
    assert {entry["kind"] for entry in entries} == {"whole", "in part", "refused"}
