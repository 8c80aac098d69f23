"""Files that appear whole or not at all, and what is left of those that did not."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tal_run.extractors import files
from tal_run.extractors.files import remove_part, written_whole

LATER_NS = time.time_ns() + 3_600 * 10**9


def test_what_is_being_written_is_left_alone_however_old_it_is(tmp_path: Path) -> None:
    with written_whole(tmp_path / "found.json") as part:
        part.write_bytes(b"half")
        assert not remove_part(part, LATER_NS)
        part.write_bytes(b"whole")
    assert (tmp_path / "found.json").read_bytes() == b"whole"
    assert [path.name for path in tmp_path.iterdir()] == ["found.json"]


def test_what_a_killed_process_left_goes_if_it_is_old_enough(tmp_path: Path) -> None:
    code = "import os, sys; from tal_run.extractors.files import written_whole\n"
    code += "with written_whole(sys.argv[1]) as part: part.write_bytes(b'half'); os.kill(os.getpid(), 9)"
    ended = subprocess.run([sys.executable, "-c", code, str(tmp_path / "found.json")], check=False)
    assert ended.returncode == -signal.SIGKILL
    (part,) = tmp_path.iterdir()
    assert not remove_part(part, part.stat().st_mtime_ns)
    assert remove_part(part, part.stat().st_mtime_ns + 1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["found.json", ".tal-run-x.lock", "x.part"])
def test_other_files_are_none_of_its_business(name: str, tmp_path: Path) -> None:
    (tmp_path / name).touch()
    assert not remove_part(tmp_path / name, LATER_NS)
    assert (tmp_path / name).exists()


def test_neither_links_nor_folders_nor_pipes_are_taken_for_parts(tmp_path: Path) -> None:
    (tmp_path / "kept").touch()
    (tmp_path / ".tal-run-link.part").symlink_to(tmp_path / "kept")
    (tmp_path / ".tal-run-folder.part").mkdir()
    os.mkfifo(tmp_path / ".tal-run-pipe.part")
    before = sorted(tmp_path.iterdir())
    assert not any(remove_part(path, LATER_NS) for path in before)
    assert sorted(tmp_path.iterdir()) == before


def test_a_part_that_is_swept_before_it_is_held_is_begun_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two runs that begin at once: one sweeps what the other has made and not yet locked."""
    lock, swept = files._lock, []

    def sweep_first(handle: int, *, patient: bool = True) -> None:
        if patient and len(swept) < 3:
            (part,) = tmp_path.iterdir()
            monkeypatch.setattr(files, "_lock", lock)
            swept.append(remove_part(part, LATER_NS))
            monkeypatch.setattr(files, "_lock", sweep_first)
        lock(handle, patient=patient)

    monkeypatch.setattr(files, "_lock", sweep_first)
    with written_whole(tmp_path / "found.json") as part:
        part.write_bytes(b"whole")
    assert swept == [True] * 3
    assert [path.name for path in tmp_path.iterdir()] == ["found.json"]


def test_without_locks_the_clock_alone_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(handle: int, how: int) -> None:
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with written_whole(tmp_path / "found.json") as part:
        part.write_bytes(b"whole")
        assert not remove_part(part, part.stat().st_mtime_ns)
    assert (tmp_path / "found.json").read_bytes() == b"whole"
    (tmp_path / ".tal-run-dead.part").touch()
    assert remove_part(tmp_path / ".tal-run-dead.part", LATER_NS)


def test_nothing_is_held_or_open_afterwards(tmp_path: Path) -> None:
    def handles() -> int:
        return sum(1 for _ in Path("/dev/fd").iterdir())

    before = handles()
    for _ in range(5):
        with written_whole(tmp_path / "a"):
            pass
        with pytest.raises(ZeroDivisionError), written_whole(tmp_path / "b"):
            raise ZeroDivisionError
    assert handles() == before
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
