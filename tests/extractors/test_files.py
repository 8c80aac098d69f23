"""Files that appear whole or not at all, and what is left of those that did not."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tal_run.extractors.files import remove_parts, written_whole
from tal_run.pipeline.outputs import OutputError, check_writable


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o077, 0o600)], ids=oct)
def test_others_may_read_what_other_programs_would_let_them(tmp_path: Path, mask: int, mode: int) -> None:
    before = os.umask(mask)
    try:
        with written_whole(tmp_path / "found.json") as part:
            part.write_bytes(b"whole")
            assert stat.S_IMODE(part.stat().st_mode) == mode
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "found.json").stat().st_mode) == mode


def test_until_it_is_whole_the_old_one_stays(tmp_path: Path) -> None:
    (tmp_path / "found.json").write_bytes(b"old")
    with pytest.raises(ZeroDivisionError), written_whole(tmp_path / "found.json") as part:
        part.write_bytes(b"half" * (1 // 0))
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("found.json", b"old")]


def test_several_may_write_the_same_file(tmp_path: Path) -> None:
    with written_whole(tmp_path / "found.json") as first, written_whole(tmp_path / "found.json") as second:
        first.write_bytes(b"first")
        second.write_bytes(b"second")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("found.json", b"first")]


def test_of_a_killed_process_the_parts_of_that_file_can_be_removed(tmp_path: Path) -> None:
    code = "import os, sys; from tal_run.extractors.files import written_whole\n"
    code += "with written_whole(sys.argv[1]) as part: part.write_bytes(b'half'); os.kill(os.getpid(), 9)"
    for name in ("found.json", "other.json"):
        ended = subprocess.run([sys.executable, "-c", code, str(tmp_path / name)], check=False)
        assert ended.returncode == -signal.SIGKILL
    assert len(list(tmp_path.iterdir())) == 2
    remove_parts(tmp_path / "found.json")
    assert len(list(tmp_path.iterdir())) == 1


class TestBeforeTheWork:
    def test_trying_leaves_nothing_and_follows_nothing(self, tmp_path: Path) -> None:
        """Whatever names the trial might have had, somebody may have put links there."""
        precious = tmp_path / "precious"
        precious.write_bytes(b"precious")
        folder = tmp_path / "shared"
        folder.mkdir()
        (folder / f".{os.getpid()}.tal-run-trial").symlink_to(precious)
        before = sorted(folder.iterdir())
        check_writable(folder / "found.json")
        assert sorted(folder.iterdir()) == before
        assert precious.read_bytes() == b"precious"

    def test_a_folder_that_is_not_there_is_said(self, tmp_path: Path) -> None:
        with pytest.raises(OutputError, match="does not exist: create it first"):
            check_writable(tmp_path / "absent" / "found.json")
