"""Published weights: where they are looked for, how they are fetched, and how each byte is checked.

A file is looked for, by its name here or at its public address, in the folders of ``TAL_RUN_WEIGHTS`` (``:``-separated,
searched recursively), then in the cache, then downloaded. Whatever the way, its bytes must hash to what is known of them:
weights steer everything after them, so a near miss is refused rather than used. Some authors published no checksum; what is
first had of such a file is pinned, by a note of its sha256 in the cache, and from then on nothing else will do.

A folder that may not be entered, or whose name no system takes, is taken for one in which nothing is.
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
MOST_BYTES = 2 << 30  # of a file whose size is not known


class WeightsError(TalRunError):
    """Weights that are missing, unreachable or not the expected bytes."""


@dataclass(frozen=True, kw_only=True)
class WeightsFile:
    """One published file: its name here, its address, and what its bytes must hash to.

    Attributes:
        file_name: its name in the cache, and one of the two that it is looked for by.
        url: public address; None: there is none that a program can rely on, and ``source`` says where people find it.
        licence: of the weights.
        sha256: of its bytes, where known.
        git_blob: git's name for its bytes, where that is what is known; neither: the first ones had are pinned.
        size_bytes: their number, where known.
        source: for people; only where there is no address.
    """

    file_name: str
    url: str | None
    licence: str
    sha256: str | None = None
    git_blob: str | None = None
    size_bytes: int | None = None
    source: str = ""


def search_folders() -> tuple[Path, ...]:
    """The folders named by ``TAL_RUN_WEIGHTS``, in order."""
    return tuple(Path(entry) for entry in os.environ.get(SEARCH_VARIABLE, "").split(os.pathsep) if entry)


def cache_folder() -> Path:
    """Where downloads are kept (``TAL_RUN_CACHE`` or the user's cache folder)."""
    return Path(os.environ.get("TAL_RUN_CACHE") or platformdirs.user_cache_dir("tal-run")) / "weights"


def locate(*files: WeightsFile, hook: Hook = ignore_progress, pin_first: bool = True) -> tuple[Path, ...]:
    """Paths of files whose content has been verified; what is nowhere on this machine is downloaded.

    Args:
        files: what is wanted.
        hook: told of downloads.
        pin_first: pin what is first had of a file without a known checksum; False: the caller proves it and calls ``pin``.

    Raises:
        WeightsError: for some, nothing with the right content was found and it could not be downloaded.
    """
    found = {weights: _find(weights) for weights in files}
    missing = [weights for weights in files if found[weights] is None]
    if by_hand := [weights for weights in missing if weights.url is None]:
        raise WeightsError("; ".join(map(_where_to_put, by_hand)))
    for weights in missing:
        assert weights.url is not None
        try:
            found[weights] = _download(weights, weights.url, hook)
        except (OSError, http.client.HTTPException) as error:
            raise WeightsError(_how_to_fetch_by_hand(missing, error)) from error
    paths = {weights: path for weights, path in found.items() if path is not None}
    for weights, path in paths.items():
        if pin_first and _lacks_pin(weights):
            pin(weights, sha256_of(path))
    return tuple(paths.values())


@dataclass(frozen=True, kw_only=True)
class WeightsState:
    """How it stands with one file on this machine.

    Attributes:
        path: where it is; None: nowhere.
        verified: its bytes are what is known of them: by a checksum of its authors, or by the pin of what was first had.
        impostors: files that have its name and other bytes, with how they differ.
    """

    path: Path | None
    verified: bool
    impostors: tuple[tuple[Path, str], ...] = ()


def state_of(weights: WeightsFile) -> WeightsState:
    """Look for a file on this machine as ``locate`` does, and say how it stands with it; nothing is fetched or pinned."""
    impostors = []
    for candidate in _candidates(weights):
        try:
            fault = _fault(weights, candidate)
        except OSError as error:
            impostors.append((candidate, f"cannot be read ({error.strerror or error})"))
            continue
        if fault is None:
            return WeightsState(path=candidate, verified=not _lacks_pin(weights), impostors=tuple(impostors))
        impostors.append((candidate, fault))
    return WeightsState(path=None, verified=False, impostors=tuple(impostors))


def at_hand(*files: WeightsFile) -> bool:
    """Whether all of them are on this machine, with the right content, so that ``locate`` would download nothing."""
    return all(_find(weights) is not None for weights in files)


def sha256_of(path: Path) -> str:
    """Hexadecimal sha256 of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def git_blob_of(path: Path) -> str:
    """Git's name for a file's content: the hexadecimal sha1 of a header with the length, and the bytes."""
    digest = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(CHUNK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def is_file(path: Path) -> bool:
    """Whether there is a file; not, where its folder may not be entered."""
    try:
        return path.is_file()
    except OSError:
        return False


def _is_folder(path: Path) -> bool:
    """Whether there is a folder; not, where those above it may not be entered."""
    try:
        return path.is_dir()
    except OSError:
        return False


def noted_in(note: Path) -> str:
    """The sha256 in a note of one; whatever else stands there is no sha256 of anything.

    Raises:
        OSError: it cannot be read.
    """
    return note.read_text(encoding="ascii", errors="replace").strip()


def pin_of(weights: WeightsFile) -> Path:
    """Where the sha256 is noted of a file whose authors gave no checksum."""
    return cache_folder() / f"{weights.file_name}.pin"


def _find(weights: WeightsFile) -> Path | None:
    """A file on this machine that has the right content, whatever it is called of the two names it may have."""
    for candidate in _candidates(weights):
        try:
            if _fault(weights, candidate) is None:
                return candidate
        except OSError:
            continue  # not to be read
    return None


def _fault(weights: WeightsFile, path: Path) -> str | None:
    """How a file's content differs from what is known of it; None: not at all, or nothing is known yet."""
    if weights.sha256 is not None:
        kind, found, expected = "sha256", sha256_of(path), weights.sha256
    elif weights.git_blob is not None:
        kind, found, expected = "git blob", git_blob_of(path), weights.git_blob
    elif is_file(pin_of(weights)):
        kind, found, expected = "sha256", sha256_of(path), noted_in(pin_of(weights))
    else:
        path.open("rb").close()  # what cannot be read is no find
        return None
    return None if found == expected else f"{kind} {found[:12]}…, not {expected[:12]}…"


def pin(weights: WeightsFile, digest: str) -> None:
    """Note the sha256 of what was first had of a file without a known checksum; nothing, where it is known or noted.

    Raises:
        WeightsError: the cache cannot be written.
    """
    if not _lacks_pin(weights):
        return
    try:
        pin_of(weights).parent.mkdir(parents=True, exist_ok=True)
        with written_whole(pin_of(weights)) as part:
            part.write_text(f"{digest}\n", encoding="ascii")
    except OSError as error:
        raise WeightsError(
            f"cannot note in {cache_folder()} what {weights.file_name} holds ({error.strerror or error}), and its authors gave "
            "no checksum: let TAL_RUN_CACHE name a folder that can be written"
        ) from error


def _lacks_pin(weights: WeightsFile) -> bool:
    return weights.sha256 is None and weights.git_blob is None and not is_file(pin_of(weights))


def _candidates(weights: WeightsFile) -> Iterator[Path]:
    """Files of that name, or of the name that the public address gives."""
    wanted = {weights.file_name, (weights.url or "").rpartition("/")[2]}
    for folder in search_folders():
        for parent, _, names in os.walk(folder):
            yield from (path for name in sorted(wanted.intersection(names)) if is_file(path := Path(parent) / name))
    if is_file(cached := cache_folder() / weights.file_name):
        yield cached


def _download(weights: WeightsFile, url: str, hook: Hook) -> Path:
    target = cache_folder() / weights.file_name
    target.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(target) as part:
        _fetch(weights, url, part, hook)
        if fault := _fault(weights, part):
            raise WeightsError(
                f"{url} gave other bytes than expected ({fault}): try again later, or put the right file into a folder "
                f"named in {SEARCH_VARIABLE}{_unpinned(weights)}"
            )
    return target


def _unpinned(weights: WeightsFile) -> str:
    """The way out of a pin, where it is only a pin that other bytes offend."""
    pinned = weights.sha256 is None and weights.git_blob is None and is_file(pin_of(weights))
    return f", or remove {pin_of(weights)} if other bytes than the first ones are wanted" if pinned else ""


def _where_to_put(weights: WeightsFile) -> str:
    impostors = list(_candidates(weights))
    wrong = f" ({impostors[0]} has the name but not the content)" if impostors else ""
    return (
        f"{weights.file_name} has no address that a program can fetch it from{wrong}: get it from {weights.source} and put it "
        f"into {cache_folder()}, or into a folder named in {SEARCH_VARIABLE}{_unpinned(weights)}"
    )


def _how_to_fetch_by_hand(missing: Sequence[WeightsFile], error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        error.close()  # it holds the connection
    reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
    names = " and ".join(weights.file_name for weights in missing)
    # the address may end in another name, by which the file is not looked for in the cache
    each = " and ".join(f"{weights.url or weights.source} as {weights.file_name}" for weights in missing)
    impostors = [path for weights in missing for path in _candidates(weights)]
    wrong = f"; {impostors[0]} has the name but not the content" if impostors else ""
    absent = [str(folder) for folder in search_folders() if not _is_folder(folder)]
    nowhere = f"; {SEARCH_VARIABLE} names {absent[0]}, which is no folder" if absent else ""
    return (
        f"cannot download {names} ({reason}{wrong}{nowhere}): where there is a network, save {each}, and put "
        f"{'it' if len(missing) == 1 else 'them'} into {cache_folder()}, or into a folder named in {SEARCH_VARIABLE}"
    )


def _fetch(weights: WeightsFile, url: str, part: Path, hook: Hook) -> None:
    step = f"downloading {weights.file_name}"
    # never more than promised: a wrong address must not fill the disk
    most = MOST_BYTES if weights.size_bytes is None else weights.size_bytes
    with urllib.request.urlopen(url, timeout=TIMEOUT_S) as reply, part.open("wb") as file:
        received = 0
        hook(step, completed=0, total=weights.size_bytes)
        while received <= most and (block := reply.read(CHUNK_BYTES)):
            file.write(block)
            received += len(block)
            hook(step, completed=received, total=weights.size_bytes)
    if weights.size_bytes is None and (received > most or not received):
        raise OSError(f"{received} bytes came, which is no network")
