"""The parent's end of a decoder process: start it, ask it, believe none of it, end it.

Every wait is bounded by `stall_s`, every message by what was asked for, and whatever way a `DecoderProcess` is left the
child is dead and reaped.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from typing import IO, Self

import numpy as np
from numpy.typing import NDArray

from .lifeline import lifeline
from .wire import MAX_HEADER_BYTES, PREFIX, JSONObject, printable

COMMAND = (sys.executable, "-P", "-m", "tal_run.extractors.decoder")
PIPE_BYTES = 1 << 20
REAPING_S = 10.0


class DecoderFailure(Exception):  # noqa: N818 - caught inside the package and made a VideoError there
    """The child said so (`cause` of video.CAUSES), or it stalled, died or talked nonsense; the text is the detail."""

    def __init__(self, cause: str, detail: str = "") -> None:
        super().__init__(detail)
        self.cause = cause
        self.detail = detail


class DecoderProcess:
    """One child process. Not for several threads at once."""

    def __init__(self, *, stall_s: float, command: Sequence[str] = COMMAND) -> None:
        self._stall_s = stall_s
        try:
            # A file, which the child may fill only so far, needs no reader and so blocks nobody.
            self._stderr: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed in `close`
        except OSError as error:
            raise DecoderFailure("no_process", str(error)) from error
        # Nothing is ever written into it; the child dies when this end closes (lifeline.die_with_parent).
        childs, self._lifeline = lifeline()
        try:
            self._process = subprocess.Popen(
                [*command, str(childs)],
                pass_fds=[childs],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._stderr,
                bufsize=0,
                env=_environment(os.environ),
                process_group=0,  # Ctrl-C on the terminal is for the parent, which ends the child
            )
        except OSError as error:
            self._stderr.close()
            os.close(self._lifeline)
            raise DecoderFailure("no_process", str(error)) from error
        finally:
            os.close(childs)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._requests = self._process.stdin
        self._replies = self._process.stdout
        self._poll = select.poll()
        self._poll.register(self._replies, select.POLLIN)
        _widen(self._replies)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """The child's process number."""
        return self._process.pid

    def kill(self) -> None:
        """End the child from any thread: one that waits for a reply gets an error, and ``close`` is still due."""
        self._process.kill()

    def close(self) -> None:
        """End the child at once; harmless when it is over already."""
        if self._stderr.closed:
            return
        try:
            self._process.kill()
            self._process.wait(REAPING_S)
        finally:
            self._requests.close()
            self._replies.close()
            self._stderr.close()
            os.close(self._lifeline)

    def ask(self, request: JSONObject) -> None:
        """Send a request.

        Raises:
            DecoderFailure: nobody is there to take it.
        """
        try:
            self._requests.write(json.dumps(request).encode("ascii") + b"\n")
        except OSError as error:
            raise self._death() from error

    def reply(self, *kinds: str) -> tuple[JSONObject, int]:
        """The next message of one of `kinds` and the size of its payload, which is still to be read with `read_into`.

        Raises:
            DecoderFailure: another kind of message, no message, or not a message.
        """
        while True:
            header_bytes, payload_bytes = PREFIX.unpack(self._read(PREFIX.size))
            if header_bytes > MAX_HEADER_BYTES:
                raise DecoderFailure("nonsense", f"a header of {header_bytes} bytes")
            try:
                message = json.loads(self._read(header_bytes))
            except (ValueError, RecursionError) as error:
                raise DecoderFailure("nonsense", "a header that is not JSON") from error
            kind = message.get("kind") if isinstance(message, dict) else None
            if payload_bytes and kind != "frames":
                raise DecoderFailure("nonsense", f"{payload_bytes} bytes that nobody asked for")
            if kind in kinds:
                return message, payload_bytes
            if kind == "error":
                raise DecoderFailure(printable(message.get("cause")), printable(message.get("detail", "")))
            if kind != "working":
                raise DecoderFailure("nonsense", "a message of an unknown kind")

    def read_into(self, pixels: NDArray[np.uint8]) -> None:
        """Fill the contiguous `pixels` from the payload."""
        self._fill(memoryview(pixels.data).cast("B"))

    def _read(self, count: int) -> bytes:
        data = bytearray(count)
        self._fill(memoryview(data))
        return bytes(data)

    def _fill(self, room: memoryview) -> None:
        while room:
            if not self._poll.poll(self._stall_s * 1000):
                raise DecoderFailure("stalled", f"no sign of life for {self._stall_s:g} s")
            count = os.readv(self._replies.fileno(), [room])
            if not count:
                raise self._death()
            room = room[count:]

    def _death(self) -> DecoderFailure:
        """What the end of the pipe means."""
        try:
            status = self._process.wait(REAPING_S)
        except subprocess.TimeoutExpired:
            return DecoderFailure("nonsense", "it closed its pipe and went on")
        last_words = self._last_words()
        if "MemoryError" in last_words or "bad_alloc" in last_words:
            return DecoderFailure("memory")
        how = f"signal {_signal_name(-status)}" if status < 0 else f"exit status {status}"
        return DecoderFailure("died", f"{how}; {last_words}" if last_words else how)

    def _last_words(self) -> str:
        """The last line of what the child wrote to its standard error."""
        size = self._stderr.seek(0, os.SEEK_END)
        self._stderr.seek(max(0, size - 4096))
        lines = self._stderr.read(4096).decode(errors="replace").splitlines()
        return next((printable(line) for line in reversed(lines) if line.strip()), "")


def _environment(inherited: Mapping[str, str]) -> dict[str, str]:
    """The child's environment: one thread for NumPy's BLAS, which it does not use and which costs address space."""
    return {**inherited, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)


def _widen(pipe: IO[bytes]) -> None:
    """Let more than 64 KiB wait in the pipe, where the system can and allows it."""
    if hasattr(fcntl, "F_SETPIPE_SZ"):
        with contextlib.suppress(OSError):
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
