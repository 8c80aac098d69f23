"""Files that appear whole or not at all."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


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
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=".tal-run-", suffix=".part")
    os.close(handle)
    part = Path(name)
    try:
        yield part
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.chmod(0o666 & ~_umask())  # mkstemp's 0600 is for secrets
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
