"""The videos in a folder, each with a name that stays, and what of them is this machine's share."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tal_run.extractors.errors import TalRunError
from tal_run.extractors.names import meant
from tal_run.extractors.video_errors import VIDEO_ENDINGS
from tal_run.extractors.wire import printable

MOST_PART_BYTES = 200  # of a file's name: 255 less what is written behind it
MOST_NAME_BYTES = 1000  # of a path below the folder: systems take 4,096 in all
KEPT_BYTES = 80  # of a name that is too long


class FolderError(TalRunError):
    """A folder in which nothing can be done."""


@dataclass(frozen=True)
class FoundVideo:
    """A video in the folder.

    Attributes:
        name: its path below the folder, with ``/``.
        path: where it is.
        bytes: its size when it was found; 0: that could not be told.
    """

    name: str
    path: Path
    bytes: int

    @property
    def video_id(self) -> str:
        """What it is called in a file of its own: its name without folders and ending."""
        return self.path.stem


def videos_in_folder(folder: Path, *, leave_out: Collection[Path] = ()) -> tuple[list[FoundVideo], list[str]]:
    """Every file below a folder that is named like a video, sorted by name, and sentences on folders that cannot be read.

    Links to files are files. Links to folders are followed once all else is listed, unless they lead to a folder that is listed
    already, so that none is listed twice and no circle is walked.

    Args:
        folder: where to look.
        leave_out: folders not to look into.

    Raises:
        FolderError: there is no such folder, or it cannot be read.
    """
    if not folder.is_dir():
        likely = meant(folder.name, _folders_in(folder.parent))
        raise FolderError(f"{printable(folder)} is no folder: {likely or 'give the one in which the videos lie'}")
    seen = {os.path.realpath(path) for path in leave_out}
    found: list[FoundVideo] = []
    complaints: list[str] = []
    waiting, links = [""], list[str]()
    while waiting or links:
        if not waiting:
            links.sort(reverse=True)
        here = (waiting or links).pop()
        real = os.path.realpath(folder / here)
        if real in seen:
            continue
        seen.add(real)
        try:
            with os.scandir(folder / here) as entries:
                for entry in entries:
                    name = f"{here}/{entry.name}" if here else entry.name
                    if _is_folder(entry):
                        (links if entry.is_symlink() else waiting).append(name)
                    elif os.path.splitext(entry.name)[1].lower() in VIDEO_ENDINGS:  # noqa: PTH122 - a name, not a path
                        found.append(FoundVideo(name, folder / name, _size(entry)))
        except OSError as error:
            if not here:
                raise FolderError(f"{printable(folder)} cannot be read ({error.strerror}): ask for the permission") from error
            complaints.append(
                f"the folder {printable(folder / here)} cannot be read ({error.strerror}): its videos are left out"
            )
    return sorted(found, key=lambda video: os.fsencode(video.name)), complaints


def _folders_in(folder: Path) -> list[str]:
    try:
        return sorted(printable(path.name) for path in folder.iterdir() if path.is_dir())
    except OSError:
        return []


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False  # a link to itself


def _size(entry: os.DirEntry[str]) -> int:
    try:
        return entry.stat().st_size
    except OSError:
        return 0  # it leads nowhere; why, is found out when it is its turn


def share_of(videos: Iterable[FoundVideo], index: int, count: int) -> list[FoundVideo]:
    """Share ``index`` (from 1) of ``count``: a video's share depends on its name alone, whatever else is there."""
    return [video for video in videos if int(_hash(video.name), 16) % count == index - 1]


def parsed_shard(text: str) -> tuple[int, int]:
    """The two numbers of ``i/n``. Raises ValueError: they are none."""
    match = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text.strip(), re.ASCII)
    index, count = map(int, match.groups()) if match else (0, 0)
    if not 1 <= index <= count:
        raise ValueError(f"{printable(text)!r} is no share: give i/n with i from 1 to n, such as 1/4")
    return index, count


def file_name(name: str) -> str:
    """The path, below a folder of records and without ``.json``, that stands for the video of that name, and for no other.

    It is the name itself but where that cannot be: what is too long for a file system, folders that are called as a record
    might be, and what looks like one of the names that are made of these, have a hash in them.
    """
    if len(os.fsencode(name)) > MOST_NAME_BYTES:
        return _hashed(name, "long")
    *folders, last = name.split("/")
    return "/".join([*(_part(folder, is_folder=True) for folder in folders), _part(last, is_folder=False)])


def second_file_name(name: str) -> str:
    """Another one, for that video alone, should something else lie at the first."""
    return _hashed(name, name.rpartition("/")[2])


def _part(part: str, *, is_folder: bool) -> str:
    is_too_long = len(os.fsencode(part)) > MOST_PART_BYTES
    if is_too_long or re.search(r"~[0-9a-f]{32}$", part) or (is_folder and part.endswith(".json")):
        return _hashed(part, part)
    return part


def _hashed(text: str, beginning: str) -> str:
    kept = os.fsencode(beginning)[:KEPT_BYTES].decode("utf-8", "ignore")
    return f"{kept}~{_hash(text)[:32]}"


def _hash(text: str) -> str:
    return hashlib.sha256(os.fsencode(text)).hexdigest()


def iter_files(folder: Path) -> Iterator[Path]:
    """Every file below a folder, links not followed; none if there is no such folder."""
    for here, folders, files in os.walk(folder):
        folders.sort()
        for name in sorted(files):
            yield Path(here, name)
