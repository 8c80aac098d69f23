"""Files that appear whole or not at all."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PART, PART_ENDING = ".tal-run-", ".part"  # of the name of what is being written
# answers of file systems that have no locks
NO_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}


@contextmanager
def written_whole(target: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path beside ``target``; on success it becomes ``target``, on any error it is removed.

    The bytes are on the disk before the rename, so neither a full disk nor a power cut leaves half a file. A link is
    followed; what is no regular file (``/dev/stdout``, a named pipe) is never replaced: give it to ``open`` instead. While it
    is being written it is held by a lock, so that nobody takes it for what a killed process left (``remove_part``).

    Raises:
        OSError: the folder is missing, not writable or full.
    """
    target = Path(os.path.realpath(target))
    if target.exists() and not target.is_file():
        raise OSError(errno.EINVAL, "not a regular file", str(target))
    part, handle = _held_part(target)
    try:
        yield part
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.chmod(0o666 & ~_umask())  # mkstemp's 0600 is for secrets
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
        os.close(handle)


def _held_part(target: Path) -> tuple[Path, int]:
    """A new temporary file beside ``target``, and the handle that holds it for as long as it is open."""
    while True:
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f"{PART}{_mark(target)}-", suffix=PART_ENDING)
        try:
            _lock(handle)
            if _is_still(Path(name), handle):  # nobody swept it before it was held
                return Path(name), handle
        except BaseException:
            os.close(handle)
            Path(name).unlink(missing_ok=True)
            raise
        os.close(handle)


def remove_part(path: Path, before_ns: int) -> bool:
    """Remove a temporary file that was last written before that time of its file system's clock and that nobody holds.

    Returns:
        Whether it was one, and is gone.
    """
    if not (path.name.startswith(PART) and path.name.endswith(PART_ENDING)):
        return False
    try:
        handle = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode) or status.st_mtime_ns >= before_ns:
            return False
        _lock(handle, patient=False)
        path.unlink()
    except OSError:
        return False
    finally:
        os.close(handle)
    return True


def _lock(handle: int, *, patient: bool = True) -> None:
    """Hold a file, where its file system knows locks. Raises OSError: another one does, and this one is not patient."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if patient else fcntl.LOCK_NB))
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise


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
                _lock(handle, patient=False)
            except BlockingIOError:
                os.close(handle)
                handle = None
                break
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


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
