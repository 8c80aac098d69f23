"""Files that appear whole or not at all."""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PART, PART_ENDING = ".tal-run-", ".part"  # of the names of what is being written
# answers of file systems that have no locks
NO_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}


@contextmanager
def written_whole(target: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path beside ``target``; on success it becomes ``target``, on any error it is removed.

    The bytes are on the disk before the rename, so neither a full disk nor a power cut leaves half a file. A link is
    followed; what is no regular file (``/dev/stdout``, a named pipe) is never replaced: give it to ``open`` instead.

    Raises:
        OSError: the folder is missing, not writable or full.
    """
    target = Path(os.path.realpath(target))
    if target.exists() and not target.is_file():
        raise OSError(errno.EINVAL, "not a regular file", str(target))
    part = _new_part(target)
    try:
        yield part
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def remove_parts(target: str | os.PathLike[str]) -> None:
    """Remove what processes that were killed had written of a file. For those who know that nobody else is writing it."""
    target = Path(os.path.realpath(target))
    for part in target.parent.glob(f"{PART}{_mark(target)}-*{PART_ENDING}"):
        with suppress(OSError):
            part.unlink()


@contextmanager
def held_alone(target: str | os.PathLike[str]) -> Iterator[bool]:
    """Hold what only one process can hold of a file, however the others ended; True: it is held.

    Where the file system has no locks everybody holds it.

    Raises:
        OSError: the folder is missing, not writable or full.
    """
    target = Path(os.path.realpath(target))
    path = target.with_name(f".tal-run-{_mark(target)}.lock")
    handle = None
    try:
        while handle is None:
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(handle)
                handle = None
                break
            except OSError as error:
                if error.errno not in NO_LOCKS:
                    raise
            if not _is_still(path, handle):  # whoever held it removed it
                os.close(handle)
                handle = None
        yield handle is not None
    finally:
        if handle is not None:
            with suppress(OSError):
                path.unlink()
            os.close(handle)


def _is_still(path: Path, handle: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(handle))
    except FileNotFoundError:
        return False


def _mark(target: Path) -> str:
    """What temporary files of one target are known by; short, as names have a largest length."""
    return f"{zlib.crc32(os.fsencode(target.name)):08x}"


def _new_part(target: Path) -> Path:
    """An empty file beside ``target``, such as other programs make them: mkstemp's may be read by nobody else."""
    while True:
        part = target.with_name(f"{PART}{_mark(target)}-{secrets.token_hex(6)}{PART_ENDING}")
        with suppress(FileExistsError):
            os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666))
            return part
