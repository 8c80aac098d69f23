"""What can be wrong with a video file, one sentence each with the cause and the cure; and what shows without decoding."""

from __future__ import annotations

import difflib
import os
import re
import stat
from pathlib import Path

from .errors import TalRunError
from .wire import printable


class VideoError(TalRunError):
    """A file that gives no frames, or no more: what happened, what was found, the cure."""


# of what is taken for a video where folders are searched; a file that is named is tried whatever it is called
VIDEO_ENDINGS = frozenset({".mp4", ".mkv", ".webm", ".avi", ".mov", ".m4v", ".ts", ".mpg", ".mpeg", ".wmv", ".flv"})
HEAD_BYTES = 4096
# Files that make a player open other files or addresses.
PLAYLIST_HEADS = (
    rb"#EXTM3U|ffconcat|\[playlist\]|\[reference\]|<smil|<asx|v=0\r?\n|rtsp:|"
    rb"(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)?<(MPD|SmoothStreamingMedia|AssetMap|CompositionPlaylist)\b"
)

CAUSES = {
    "format": "is not a video in a format that can be read ({detail}); if it plays elsewhere, convert it with "
    "`ffmpeg -i IN -c:v libx264 OUT.mp4`",
    "no_index": "ends before its index (moov), so the download or recording was cut off; fetch it again or repair it, "
    "e.g. with untrunc",
    "audio_only": "holds sound but no pictures; give the file that has the video stream",
    "no_video": "holds no video stream; give the file that has one",
    "codec": "holds video in a codec that is unknown here, or its header is damaged; if it plays elsewhere, convert it with "
    "`ffmpeg -i IN -c:v libx264 OUT.mp4`, or else fetch it again",
    "no_frames": "has a video stream in which no frame can be decoded ({detail}); fetch it again, or convert it with "
    "`ffmpeg -i IN -c:v libx264 OUT.mp4`",
    "too_large": "has pictures of {detail} pixels, more than the {max_pixels:,} allowed; scale it down first, or "
    "raise DecodeLimits.max_pixels",
    "too_long": "has timestamps that span {detail}, more than the {max_hours:g} h allowed, so they are probably "
    "broken; write them anew with `ffmpeg -i IN -c:v libx264 OUT.mp4`, or raise DecodeLimits.max_duration_s",
    "stays": "shows one frame for {detail} and the others for moments, more than the {max_stay_s:g} s allowed, so its "
    "timestamps are probably broken; write them anew with `ffmpeg -i IN -c:v libx264 OUT.mp4`, or raise "
    "DecodeLimits.max_stay_s",
    "memory": "needs more than the {memory_gib:g} GiB of address space allowed to a decoder; scale it down first, or raise "
    "DecodeLimits.memory_bytes",
    "stalled": "made the decoder hang ({detail}); it was stopped; convert the file with "
    "`ffmpeg -i IN -c:v libx264 OUT.mp4`, or raise DecodeLimits.stall_s if the disk is slow",
    "died": "made the decoder crash ({detail}); convert it with `ffmpeg -i IN -c:v libx264 OUT.mp4`",
    "nonsense": "made the decoder answer nonsense ({detail}), so it was stopped; do not trust this file",
    "changed": "changed while it was read ({detail}); wait until it is complete and start again",
    "no_process": "cannot be read because the decoder process does not start ({detail}); check that {python} runs",
    "decoder": "cannot be decoded ({detail}); fetch it again, or convert it with `ffmpeg -i IN -c:v libx264 OUT.mp4`",
}


def check_file(path: str | os.PathLike[str]) -> Path:
    """The absolute path of what looks like a file worth decoding; opens nothing but that file.

    Raises:
        VideoError: it does not, with the cause.
    """
    text = os.fspath(path)
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:", text) and not Path(text).exists():
        raise VideoError(f"{printable(text)} is an address, and tal-run reads local files; download it first")
    if not text or "\0" in text:
        raise VideoError(f"{printable(repr(text))} cannot be the name of a file; give the path of a video")
    absolute = Path(text).absolute()
    shown = printable(text)
    try:
        status = absolute.stat()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise VideoError(f"there is no file {shown}; {_suggestion(absolute)}") from error
    except PermissionError as error:
        raise VideoError(f"{shown} lies in a folder that may not be entered; ask for the permission, or chmod it") from error
    except OSError as error:
        raise VideoError(f"{shown} cannot be opened ({error.strerror}); check the path and the disk") from error
    if stat.S_ISDIR(status.st_mode):
        raise VideoError(f"{shown} is a folder, not a video; name the files in it")
    if not stat.S_ISREG(status.st_mode):
        raise VideoError(f"{shown} is a pipe, socket or device, not a file; save the video to a file first")
    if not status.st_size:
        raise VideoError(f"{shown} is empty (0 bytes), so the download or recording failed; fetch it again")
    _check_head(absolute, shown)
    return absolute


def _check_head(path: Path, shown: str) -> None:
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except PermissionError as error:
        raise VideoError(f"{shown} may not be read by you; `chmod +r` it, or ask its owner") from error
    except OSError as error:
        raise VideoError(f"{shown} cannot be read ({error.strerror}); check the disk") from error
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if re.match(PLAYLIST_HEADS, text, re.IGNORECASE | re.DOTALL):
        raise VideoError(
            f"{shown} is a playlist, which names other files or addresses, and those are refused; give the video itself"
        )
    if _is_text(head):
        raise VideoError(f"{shown} is a text file, not a video; give the video itself")


def _is_text(head: bytes) -> bool:
    """Whether there is nothing but printable UTF-8 and white space, the last character perhaps cut in two."""
    try:
        text = head.decode()
    except UnicodeDecodeError as error:
        if error.start < len(head) - 3 or len(head) < HEAD_BYTES:
            return False
        text = head[: error.start].decode()
    return all(character.isprintable() or character.isspace() for character in text)


def _suggestion(path: Path) -> str:
    if path.is_symlink():
        return f"it is a link to {printable(path.readlink())}, where nothing is: mend the link"
    try:
        siblings = [entry.name for entry in path.parent.iterdir()]
    except OSError:
        return f"there is no folder {printable(path.parent)} either" if not path.parent.exists() else "check the path"
    close = difflib.get_close_matches(path.name, siblings, n=1)
    return f"did you mean {printable(close[0])}?" if close else "check the path"
