"""Published weights: where they are looked for, how they are fetched, and how each byte is checked.

A file is looked for, by its name here or at its public address, in the folders of ``TAL_RUN_WEIGHTS`` (``:``-separated,
searched recursively), then in the cache, then downloaded. Whatever the way, its sha256 must be the known one: weights
steer everything after them, so a near miss is refused rather than used.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
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


def locate(*files: WeightsFile, hook: Hook = ignore_progress) -> tuple[Path, ...]:
    """Paths of files whose content has been verified; what is nowhere on this machine is downloaded.

    Raises:
        WeightsError: for some, nothing with the right content was found and it could not be downloaded.
    """
    found = {weights: _find(weights) for weights in files}
    missing = [weights for weights in files if found[weights] is None]
    for weights in missing:
        try:
            found[weights] = _download(weights, hook)
        except (OSError, http.client.HTTPException) as error:
            raise WeightsError(_how_to_fetch_by_hand(missing, error)) from error
    return tuple(path for path in found.values() if path is not None)


def at_hand(*files: WeightsFile) -> bool:
    """Whether all of them are on this machine, with the right content, so that ``locate`` would download nothing."""
    return all(_find(weights) is not None for weights in files)


def sha256_of(path: Path) -> str:
    """Hexadecimal sha256 of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _find(weights: WeightsFile) -> Path | None:
    """A file on this machine that has the right content, whatever it is called of the two names it may have."""
    for candidate in _candidates(weights):
        try:
            if sha256_of(candidate) == weights.sha256:
                return candidate
        except OSError:
            continue  # not to be read
    return None


def _candidates(weights: WeightsFile) -> Iterator[Path]:
    """Files of that name, or of the name that the public address gives."""
    wanted = {weights.file_name, weights.url.rpartition("/")[2]}
    for folder in search_folders():
        for parent, _, names in os.walk(folder):
            yield from (path for name in sorted(wanted.intersection(names)) if (path := Path(parent) / name).is_file())
    if (cached := cache_folder() / weights.file_name).is_file():
        yield cached


def _download(weights: WeightsFile, hook: Hook) -> Path:
    target = cache_folder() / weights.file_name
    target.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(target) as part:
        _fetch(weights, part, hook)
        found = sha256_of(part)
        if found != weights.sha256:
            raise WeightsError(
                f"{weights.url} gave other bytes than expected (sha256 {found[:12]}…, not {weights.sha256[:12]}…): "
                f"try again later, or put the right file into a folder named in {SEARCH_VARIABLE}"
            )
    return target


def _how_to_fetch_by_hand(missing: Sequence[WeightsFile], error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        error.close()  # it holds the connection
    reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
    names, urls = (" and ".join(column) for column in zip(*((f.file_name, f.url) for f in missing), strict=True))
    impostors = [path for weights in missing for path in _candidates(weights)]
    wrong = f"; {impostors[0]} has the name but not the content" if impostors else ""
    absent = [str(folder) for folder in search_folders() if not folder.is_dir()]
    nowhere = f"; {SEARCH_VARIABLE} names {absent[0]}, which is no folder" if absent else ""
    return (
        f"cannot download {names} ({reason}{wrong}{nowhere}): put {'it' if len(missing) == 1 else 'them'} into "
        f"{cache_folder()}, or into a folder named in {SEARCH_VARIABLE}, fetched where there is a network from {urls}"
    )


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
