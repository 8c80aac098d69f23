"""Who works on what in a folder that several runs share, on one machine or many; what the dead held is free again.

::

    locks/runs/ID        a run that is at work: its machine, process, and the hash of its options
    locks/claims/HASH    holds a run's ID: that run works on the video whose name has this hash

A claim is taken by creating its file, which only one can do. It is worth as much as the run behind it, and whether that is
alive is told in two ways. The run holds its file with ``flock``, which the kernel drops when the process ends, however it ends;
and it sets the file's time every ``BEAT_S`` seconds. Whose lock is held is alive. Whose lock can be had is dead if it was begun
on this machine (since it was started last); if it was begun on another, or there are no locks here, it is dead once it has not
set the time for ``LEASE_S`` seconds by the file system's clock. So nobody's clock matters, a dead run on this machine costs its
heirs nothing, and one on another machine ``LEASE_S`` seconds at most.

Of the file system it is asked that files are created exclusively and renamed atomically, and that what one machine has written
another sees within half of ``LEASE_S``. ``flock`` is not asked for. A run that is stopped for longer and goes on (a laptop that
slept) may find another at its work: then both write the same result, each whole.

``filelock`` has leases too; here, thousands of claims share one lock and one heartbeat, and those of the dead are seen to be
so at once.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from tal_run.extractors.array_files import opened
from tal_run.extractors.wire import printable

RUNS = "runs"
BEAT_S = 15.0
LEASE_S = 120.0
MOST_BYTES = 1 << 12
TRIES = 5
RUN_ID = re.compile(r"\d{20}-\d+-[0-9a-f]{8}", re.ASCII)
# answers of file systems that have no locks
NO_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}


@dataclass(frozen=True)
class OtherRun:
    """A run that is at work in the same folder.

    Attributes:
        run_id: its name.
        recipe: the hash of its options.
        where: its process and machine, for people.
    """

    run_id: str
    recipe: str
    where: str


class Run:
    """A run's place among those that work in a folder. A context manager: on leaving, its claims are given back.

    Args:
        folder: of the locks; it is made.
        recipe: the hash of the options.

    Attributes:
        run_id: its name; of two runs, the one that began later has the greater.
        began_ns: when it was entered, by the file system's clock.

    Raises:
        OSError: (on entering, and from all methods) the folder cannot be written.
    """

    def __init__(self, folder: Path, *, recipe: str) -> None:
        self._runs, self._claims = folder / RUNS, folder / "claims"
        self._recipe = recipe
        self.run_id = f"{time.time_ns():020}-{os.getpid()}-{os.urandom(4).hex()}"
        self._file = self._runs / self.run_id
        self.began_ns = 0
        self._held: set[Path] = set()
        self._handle = -1
        self._is_over = threading.Event()
        self._heart = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> Self:
        for _ in range(TRIES):
            with suppress(FileNotFoundError):  # somebody sweeps, or leaves as the last
                self._make_folders()
                self._register()
                break
        else:
            raise FileNotFoundError(errno.ENOENT, "what is written there vanishes", str(self._runs))
        self.began_ns = self.now_ns()
        self._heart.start()
        return self

    def _make_folders(self) -> None:
        self._runs.mkdir(parents=True, exist_ok=True)
        self._claims.mkdir(exist_ok=True)

    def _register(self) -> None:
        card = {"machine": _boot_id(), "host": socket.gethostname(), "pid": os.getpid(), "recipe": self._recipe}
        new = self._runs / f".tal-run-{self.run_id}.part"  # nobody must find it before it is locked
        handle = os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            os.write(handle, json.dumps(card).encode("ascii"))
            _lock(handle, fcntl.LOCK_EX)
            new.rename(self._file)
        except BaseException:
            os.close(handle)
            new.unlink(missing_ok=True)
            raise
        self._handle = handle

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._heart.join()
        with suppress(OSError):  # a full or vanished disk: what is left here is known to be dead
            self.leave()
        for folder in (self._claims, self._runs, self._claims.parent):
            with suppress(OSError):
                folder.rmdir()  # which only the last one can
        os.close(self._handle)

    def leave(self) -> None:
        """Be no more among those at work; others can still be asked for."""
        for claim in tuple(self._held):
            self._give_back(claim)
        self._file.unlink(missing_ok=True)

    def now_ns(self) -> int:
        """The file system's clock; a sign of life, too."""
        os.utime(self._handle)
        return os.fstat(self._handle).st_mtime_ns

    def others(self) -> list[OtherRun]:
        """The other runs that are alive; what the dead held is free afterwards."""
        return list(self._living())

    def claim(self, name: str) -> bool:
        """Take what has that name, unless another run that is alive has it."""
        path = self._claims / hashlib.sha256(os.fsencode(name)).hexdigest()[:32]
        for _ in range(TRIES):
            try:
                handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
            except FileNotFoundError:  # the last but this one has just left
                self._make_folders()
                continue
            except FileExistsError:
                if not self._is_dead(path):
                    return False
                continue
            self._held.add(path)
            try:
                os.write(handle, self.run_id.encode("ascii"))
            except OSError:
                self.give_back(name)
                raise
            finally:
                os.close(handle)
            return True
        return False

    def give_back(self, name: str) -> None:
        """Let others have it."""
        self._give_back(self._claims / hashlib.sha256(os.fsencode(name)).hexdigest()[:32])

    def _give_back(self, path: Path) -> None:
        self._held.discard(path)
        if _text(path) in (self.run_id, ""):
            path.unlink(missing_ok=True)

    def _is_dead(self, claim: Path) -> bool:
        """Whether the run behind a claim is dead or gone; then what it held is free. Raises OSError."""
        try:
            owner, written_ns = _text(claim), claim.stat().st_mtime_ns
        except FileNotFoundError:
            return True  # given back
        if owner == self.run_id:
            return False
        if not owner:  # it was killed before it could say who it is, or is about to
            if self.now_ns() - written_ns > LEASE_S * 1e9:
                claim.unlink(missing_ok=True)
                return True
            return False
        if RUN_ID.fullmatch(owner):  # else it is nobody's
            if self._is_alive(self._runs / owner):
                return False
            self._bury(self._runs / owner)
        if _text(claim) == owner:  # the run was buried, or had ended, before all of its claims were given back
            claim.unlink(missing_ok=True)
        return True

    def _living(self) -> Iterator[OtherRun]:
        for path in _inside(self._runs):
            if path == self._file or not RUN_ID.fullmatch(path.name):
                continue
            if not self._is_alive(path):
                self._bury(path)
                continue
            card = _card(path)
            where = f"process {printable(card.get('pid'))} on {printable(card.get('host'))}"
            yield OtherRun(path.name, str(card.get("recipe")), where)

    def _is_alive(self, path: Path) -> bool:
        try:
            handle = os.open(path, os.O_RDWR | os.O_NOFOLLOW)  # NFS locks only what is open for writing
        except FileNotFoundError:
            return False
        try:
            try:
                # shared: two that look at the same time must not take each other for the owner
                has_locks = _lock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
            if has_locks and _card(path).get("machine") == _boot_id():
                return False
            return self.now_ns() - os.fstat(handle).st_mtime_ns < LEASE_S * 1e9
        finally:
            os.close(handle)

    def _bury(self, path: Path) -> None:
        """Free what a dead run held. Whoever renames its file does it, and nobody else."""
        grave = path.with_name(f".tal-run-{path.name}.part")
        try:
            path.rename(grave)
        except FileNotFoundError:
            return
        for claim in _inside(self._claims):
            if _text(claim) == path.name:
                claim.unlink(missing_ok=True)
        grave.unlink(missing_ok=True)

    def _beat(self) -> None:
        while not self._is_over.wait(BEAT_S):
            with suppress(OSError):
                os.utime(self._handle)

    def sweep(self) -> int | None:
        """Remove claims of nobody, if no other run is alive.

        Returns:
            The file system's time before which nobody but this run can have written anything that is still being written;
            None: there is another run.
        """
        now_ns = self.now_ns()
        if self.others():
            return None
        # a run whose file is there now has just begun: the dead ones are buried
        nobodys = (path for path in _inside(self._runs) if not RUN_ID.fullmatch(path.name))
        for path in (*_inside(self._claims), *nobodys):
            with suppress(FileNotFoundError):
                if path not in self._held and path.lstat().st_mtime_ns < now_ns:
                    path.unlink()
        return now_ns


def _inside(folder: Path) -> list[Path]:
    """What is in a folder, sorted; nothing if it is gone."""
    try:
        return sorted(folder.iterdir())
    except FileNotFoundError:
        return []


def _lock(handle: int, how: int) -> bool:
    """Whether there are locks here. Raises BlockingIOError: it is held."""
    try:
        fcntl.flock(handle, how)
    except BlockingIOError:
        raise
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        return False
    return True


def _text(path: Path) -> str:
    """What a small file says; nothing if it is gone or no file."""
    try:
        with opened(path) as file:
            return file.read(MOST_BYTES).decode("ascii", "replace")
    except OSError:
        return ""


def _card(path: Path) -> dict[str, Any]:
    try:
        card = json.loads(_text(path))
    except ValueError:
        return {}
    return card if isinstance(card, dict) else {}


def _boot_id() -> str:
    """What tells this machine, since it was started last, from all others."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return socket.gethostname()
