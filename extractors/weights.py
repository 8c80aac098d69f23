"""Published weights: where they are looked for, how they are fetched, and how each byte is checked.

A file is looked for, by name, in the folders of ``TAL_RUN_WEIGHTS`` (``:``-separated, searched recursively), then in
the cache, then downloaded from its public address. Whatever the way, its sha256 must be the known one: weights steer
everything after them, so a near miss is refused rather than used.
"""

from __future__ import annotations

import hashlib
import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from tal_run.extractors.errors import TalRunError
from tal_run.extractors.files import written_whole
from tal_run.extractors.hooks import Hook, ignore_progress

SEARCH_VARIABLE = "TAL_RUN_WEIGHTS"
CHUNK_BYTES = 1 << 20
TIMEOUT_S = 30.0


class WeightsError(TalRunError):
    """Weights that are missing, unreachable or not the expected bytes."""


@dataclass(frozen=True, kw_only=True)
class WeightsFile:
    """One published file: its name here, its address, and what its bytes must hash to."""

    file_name: str
    url: str
    sha256: str
    size_bytes: int
    licence: str


def search_folders() -> tuple[Path, ...]:
    """The folders named by ``TAL_RUN_WEIGHTS``, in order."""
    return tuple(Path(entry) for entry in os.environ.get(SEARCH_VARIABLE, "").split(os.pathsep) if entry)


def cache_folder() -> Path:
    """Where downloads are kept (``TAL_RUN_CACHE`` or the user's cache folder)."""
    return Path(os.environ.get("TAL_RUN_CACHE") or platformdirs.user_cache_dir("tal-run")) / "weights"


def locate(weights: WeightsFile, *, hook: Hook = ignore_progress) -> Path:
    """Path of a file whose content has been verified, downloading it if it is nowhere on this machine.

    Raises:
        WeightsError: nothing with the right content was found and it could not be downloaded.
    """
    impostors = []
    for candidate in _candidates(weights):
        if sha256_of(candidate) == weights.sha256:
            return candidate
        impostors.append(candidate)
    return _download(weights, impostors, hook)


def sha256_of(path: Path) -> str:
    """Hexadecimal sha256 of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _candidates(weights: WeightsFile) -> Iterator[Path]:
    for folder in search_folders():
        for parent, _, names in os.walk(folder):
            if weights.file_name in names:
                yield Path(parent) / weights.file_name
    cached = cache_folder() / weights.file_name
    if cached.is_file():
        yield cached


def _download(weights: WeightsFile, impostors: list[Path], hook: Hook) -> Path:
    target = cache_folder() / weights.file_name
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(target) as part:
            _fetch(weights, part, hook)
            found = sha256_of(part)
            if found != weights.sha256:
                raise WeightsError(
                    f"{weights.url} gave other bytes than expected (sha256 {found[:12]}…, not {weights.sha256[:12]}…): "
                    f"try again later, or put the right file into a folder named in {SEARCH_VARIABLE}"
                )
    except OSError as error:
        if isinstance(error, urllib.error.HTTPError):
            error.close()  # it holds the connection
        reason = getattr(error, "reason", None) or error
        wrong = f"; {impostors[0]} has that name but not its content" if impostors else ""
        raise WeightsError(
            f"cannot download {weights.file_name} ({reason}){wrong}: fetch {weights.url} where there is a network and "
            f"put it as {target}, or as {weights.file_name} into a folder named in {SEARCH_VARIABLE}"
        ) from error
    return target


def _fetch(weights: WeightsFile, part: Path, hook: Hook) -> None:
    step = f"downloading {weights.file_name}"
    with urllib.request.urlopen(weights.url, timeout=TIMEOUT_S) as reply, part.open("wb") as file:
        received = 0
        hook(step, completed=0, total=weights.size_bytes)
        # never more than promised: a wrong address must not fill the disk
        while received <= weights.size_bytes and (block := reply.read(CHUNK_BYTES)):
            file.write(block)
            received += len(block)
            hook(step, completed=received, total=weights.size_bytes)
