"""Decoder processes that need not start Python and import FFmpeg each time: each is a fork of one that has.

``with warm_command() as command`` gives what ``open_video(_command=...)`` takes instead of the usual command line. A file still
has a process of its own, with its own limits, and its own end; only its beginning is quicker (a sixth of the usual time).

    open_video ── starts ──▶ a launcher: hands its pipes over, and ends as the decoder ends
                                  │
    server ── forks ──▶ waiter ── forks ──▶ decoder: ``tal_run.extractors.decoder.main``
"""

from __future__ import annotations

import array
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

LAUNCHER = """
import _socket, os, struct, sys
link = _socket.socket(_socket.AF_UNIX)
link.connect(sys.argv[1])
pipes = (0, 1, 2, int(sys.argv[2]))
link.sendmsg([b"!"], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, struct.pack("4i", *pipes))])
for pipe in pipes:
    os.close(pipe)
status = struct.unpack("i", link.recv(4) or struct.pack("i", 1))[0]
if status < 0:
    os.kill(os.getpid(), -status)
os._exit(status)
"""


@contextmanager
def warm_command() -> Iterator[tuple[str, ...]]:
    """What to start instead of the decoder; what serves it ends with the block."""
    with tempfile.TemporaryDirectory(prefix="tal-run-warm-") as folder:
        address = str(Path(folder) / "decoder")
        server = subprocess.Popen(
            [sys.executable, "-P", __file__, address],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
            start_new_session=True,
        )
        assert server.stdin is not None
        assert server.stdout is not None
        try:
            if not server.stdout.readline():
                raise RuntimeError("the server of warm decoders did not start")
            yield (sys.executable, "-I", "-S", "-c", LAUNCHER, address)
        finally:
            server.stdin.close()  # it ends, when it has noticed
            server.stdout.close()
            server.wait(60)


def session_of(pid: int) -> list[int]:
    """The processes that belong to a server, itself not counted: decoders that are not over yet."""
    found = []
    for entry in Path("/proc").iterdir():
        with suppress(OSError, ValueError, IndexError):
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            if int(fields[3]) == pid and int(entry.name) != pid and fields[0] != "Z":
                found.append(int(entry.name))
    return found


def serve(address: str) -> None:
    """Fork a decoder for every launcher that asks, until standard input ends."""
    from tal_run.extractors import decoder

    with suppress(ImportError):
        import decord  # noqa: F401 - here once instead of in each fork
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the waiters
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen(16)
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        while True:
            ready, _, _ = select.select([listener, 0], [], [])
            if 0 in ready:
                return
            link, _ = listener.accept()
            if os.fork() == 0:
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                listener.close()
                _wait_for_decoder(link, decoder.main)
            link.close()


def _wait_for_decoder(link: socket.socket, main: object) -> None:
    """In the waiter: fork the decoder, and tell the launcher how it ended."""
    _, ancillary, _, _ = link.recvmsg(1, socket.CMSG_SPACE(16))
    pipes = array.array("i")
    for _, _, data in ancillary:
        pipes.frombytes(data[:16])
    if len(pipes) != 4:
        os._exit(1)
    if (pid := os.fork()) == 0:
        link.close()
        for number, pipe in enumerate(pipes[:3]):
            os.dup2(pipe, number)
            os.close(pipe)
        sys.argv = ["decoder", str(pipes[3])]
        status = 1
        try:
            main()  # type: ignore[operator]
            status = 0
        except SystemExit as ending:
            status = ending.code if isinstance(ending.code, int) else 1
        except BaseException:  # noqa: BLE001 - as Python itself would
            sys.excepthook(*sys.exc_info())
        finally:
            with suppress(BaseException):
                sys.stderr.flush()
            os._exit(status)
    for pipe in pipes:
        os.close(pipe)
    _, ended = os.waitpid(pid, 0)
    with suppress(OSError):
        link.send(array.array("i", [os.waitstatus_to_exitcode(ended)]).tobytes())
    os._exit(0)


if __name__ == "__main__":
    serve(sys.argv[1])
