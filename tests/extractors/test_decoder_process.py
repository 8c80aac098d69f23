"""What a decoder process may do to its parent: nothing. Hanging, crashing, lying and surviving are each tried."""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from tal_run.extractors.decoder_process import DecoderProcess
from tal_run.extractors.video import DecodeLimits, VideoError, open_video

QUICK = DecodeLimits(stall_s=2, chunk_frames=10)

# A decoder that behaves for a while: it relays the real one and then does something else.
RELAY = """
import os, signal, struct, subprocess, sys, time, json
real = subprocess.Popen([sys.executable, "-P", "-m", "tal_run.extractors.decoder", sys.argv[-1]],
                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=[int(sys.argv[-1])])
is_decord = False
def request():
    global is_decord
    line = sys.stdin.buffer.readline()
    is_decord = b'"decord"' in line
    real.stdin.write(line)
    real.stdin.flush()
def relay():
    head = real.stdout.read(12)
    header, payload = struct.unpack(">IQ", head)
    os.write(1, head)
    rest = real.stdout.read(header + payload)
    while rest:
        rest = rest[os.write(1, rest):]
request(); relay(); request(); relay()
if {only_decord} and not is_decord:
    while True: relay()
{misdeed}
"""
SLEEP = "time.sleep(60)"
CRASH = "os.kill(os.getpid(), signal.SIGSEGV)"
ABORT = "print('terminate called after throwing std::bad_alloc', file=sys.stderr, flush=True); os.abort()"
EXIT = "print('\\x1b[31mdecord: no\\nmercy', file=sys.stderr, flush=True); sys.exit(3)"
CLOSE = "os.close(1); time.sleep(60)"


def frames_message(**changes: object) -> str:
    header = {"kind": "frames", "first_index": 10, "count": 1, "height": 48, "width": 64, **changes}
    return f"text = {json.dumps(header)!r}.encode(); os.write(1, struct.pack('>IQ', len(text), 64 * 48 * 3) + text); {SLEEP}"


NONSENSE = {
    "noise": f"os.write(1, bytes(range(256)) * 8); {SLEEP}",
    "huge header": f"os.write(1, struct.pack('>IQ', 1 << 31, 0)); {SLEEP}",
    "not JSON": f"os.write(1, struct.pack('>IQ', 4, 0) + b'oops'); {SLEEP}",
    "deep nesting": f"os.write(1, struct.pack('>IQ', 60000, 0) + b'[' * 60000); {SLEEP}",
    "endless digits": f"os.write(1, struct.pack('>IQ', 60000, 0) + b'1' * 60000); {SLEEP}",
    "a list": f"os.write(1, struct.pack('>IQ', 2, 0) + b'[]'); {SLEEP}",
    "too many frames": frames_message(count=10**9),
    "no frames": frames_message(count=0),
    "fraction of a frame": frames_message(count=1.5),
    "another size": frames_message(height=10**6),
    "again from the start": frames_message(first_index=0),
}


@pytest.fixture
def path(factory: ModuleType, tmp_path: Path) -> Path:
    factory.make_video(tmp_path / "video.mp4")
    return tmp_path / "video.mp4"


@pytest.fixture
def fake(tmp_path: Path) -> Callable[..., tuple[str, ...]]:
    def write(misdeed: str, *, only_decord: bool = False) -> tuple[str, ...]:
        program = tmp_path / "decoder.py"
        program.write_text(RELAY.replace("{misdeed}", misdeed).replace("{only_decord}", str(only_decord)))
        return (sys.executable, "-P", str(program))

    return write


Fake = Callable[..., tuple[str, ...]]


@pytest.mark.parametrize("misdeed", [SLEEP, CRASH, EXIT, NONSENSE["noise"]])
def test_decord_that_fails_is_replaced_where_it_stopped(
    misdeed: str, path: Path, fake: Fake, factory: ModuleType, caplog: pytest.LogCaptureFixture
) -> None:
    with open_video(path, decoder="decord", limits=QUICK, _command=fake(misdeed, only_decord=True)) as video:
        chunks = list(video.frames(fps=25))
        assert video.decoder == "pyav"
    assert [factory.read_index(frame) for chunk in chunks for frame in chunk.frames] == list(range(50))
    assert [time_s for chunk in chunks for time_s in chunk.times_s] == [k / 25 for k in range(50)]
    assert "decord failed at 0.40 s" in caplog.text


@pytest.mark.parametrize(
    ("misdeed", "message"),
    [
        (SLEEP, "at 0.40 s .* made the decoder hang .no sign of life for 2 s."),
        (CRASH, "at 0.40 s .* made the decoder crash .signal SIGSEGV."),
        (ABORT, "address space allowed to a decoder"),
        (EXIT, "made the decoder crash .exit status 3; mercy"),
        (CLOSE, "made the decoder answer nonsense"),
        *((misdeed, "made the decoder answer nonsense") for misdeed in NONSENSE.values()),
    ],
)
def test_pyav_that_fails_is_an_error_in_bounded_time(
    misdeed: str, message: str, path: Path, fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tal_run.extractors.decoder_process.REAPING_S", 0.5)
    started_s = time.monotonic()
    with open_video(path, decoder="pyav", limits=QUICK, _command=fake(misdeed)) as video:
        with pytest.raises(VideoError, match=message) as caught:
            list(video.frames(fps=25))
        assert str(caught.value).isprintable()
    assert time.monotonic() - started_s < 20


def test_a_thread_that_waits_for_a_decoder_that_hangs_is_let_go(path: Path, fake: Fake) -> None:
    with open_video(path, decoder="pyav", _command=fake(SLEEP)) as video:
        is_reading, said = threading.Event(), list[str]()

        def read() -> None:
            try:
                for _ in video.frames(fps=25):
                    is_reading.set()
            except VideoError as error:
                said.append(str(error))

        thread = threading.Thread(target=read)
        thread.start()
        assert is_reading.wait(60)
        video.stop()
        thread.join(10)
        assert not thread.is_alive()
    assert len(said) == 1


def test_a_program_that_is_no_decoder(path: Path) -> None:
    for command, message in [
        (("/nonexistent/python",), "does not start"),
        (("/bin/echo", "hello, this is no decoder at all"), "nonsense|crash"),
        (("/bin/cat",), "hang|nonsense|crash"),
        (("/bin/sh", "-c", "yes | head -c 10000000 >&2; sleep 60"), "hang"),
    ]:
        with pytest.raises(VideoError, match=message):
            open_video(path, limits=QUICK, _command=command)


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def children() -> set[int]:
    return {int(pid) for task in Path("/proc/self/task").iterdir() for pid in (task / "children").read_text().split()}


def _interrupt(iterator: Iterator[object]) -> None:
    next(iterator)
    raise KeyboardInterrupt


def test_no_child_is_left_however_a_video_is_left(path: Path) -> None:
    before = children()
    with open_video(path, limits=QUICK) as video:
        iterator = video.frames(fps=25)
        next(iterator)
        assert len(children() - before) == 1
    assert children() == before
    with pytest.raises(KeyboardInterrupt), open_video(path, limits=QUICK) as video:
        _interrupt(video.frames(fps=25))
    assert children() == before
    with pytest.raises(VideoError, match="closed"):
        list(video.frames(fps=25))
    gc.collect()  # a ResourceWarning would fail the test
    assert children() == before


def test_the_child_dies_with_its_parent(path: Path) -> None:
    """Even of SIGKILL, and while the child waits to be read."""
    program = (
        "import sys, time; from tal_run.extractors.video import open_video\n"
        f"video = open_video({str(path)!r}); iterator = video.frames(fps=5000); next(iterator)\n"
        "print(video._processes[0].pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert is_alive(pid)
        parent.kill()
    deadline_s = time.monotonic() + 5
    while is_alive(pid) and time.monotonic() < deadline_s:
        time.sleep(0.02)
    assert not is_alive(pid)


def test_a_stopped_child_is_killed(path: Path) -> None:
    with DecoderProcess(stall_s=0.3) as process:
        os.kill(process.pid, signal.SIGSTOP)
    assert not is_alive(process.pid)


def test_memory_does_not_grow_with_the_video(factory: ModuleType, tmp_path: Path) -> None:
    """Ten times the frames, the same child."""
    peaks = []
    for seconds in (20, 200):
        path = tmp_path / f"{seconds}.mp4"
        factory.make_video(path, frame_count=seconds * 10, rate=10, size=(320, 240), gop=50)
        with open_video(path) as video:
            pid = video._processes[0].pid
            for chunk in video.frames(fps=10):
                if chunk.times_s[-1] < seconds - 8:
                    status = Path(f"/proc/{pid}/status").read_text()
            peaks.append(int(status.split("VmHWM:")[1].split()[0]) / 1024)
    assert peaks[1] < peaks[0] + 10  # MiB


def test_nothing_is_imported_that_costs_start_up_time() -> None:
    """The parent's side needs neither FFmpeg nor decord."""
    program = "import sys, tal_run.extractors.video; print(*sorted({'av', 'decord', 'torch', 'cv2'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "\n"
