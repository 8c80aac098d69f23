"""Speed, start-up and memory of `tal-run detect` as whole processes, and the usual script beside it in the same run.

    python tests/benchmarks/speed.py --clips CLIPS [--minutes 60]

Videos are 320x240, 25 fps H.264, made of the real clips in CLIPS: two minutes encoded once, the long one its packets
over and over. Memory is the peak resident size (VmHWM) of the process and its decoding child, added up. The usual
script (``usual_script``) is what one writes in an afternoon: PyAV, every frame to full-size RGB, scaling in NumPy and
PIL's place taken by swscale, the signature runner frame by frame, one thing after the other.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from compose import compose

QUERY = "arm wrestling"
RUNS = 5
POLL_S = 0.02


@dataclass(frozen=True)
class Run:
    """One whole process."""

    wall_s: float
    peak_mib: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=Path, required=True)
    parser.add_argument("--minutes", type=int, default=60)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        base = two_minutes(Path(folder), options.clips)
        videos = {
            minutes: repeated(base, Path(folder) / f"{minutes}min.mp4", minutes * 60) for minutes in (2, 8, options.minutes)
        }
        blink = repeated(base, Path(folder) / "2s.mp4", 2)

        start_up = statistics.median(run(detect(blink)).wall_s for _ in range(RUNS))
        print(f"start-up and the first two windows (2 s of video): {start_up:.2f} s, median of {RUNS}")
        runs = {minutes: [run(detect(video)) for _ in range(RUNS if minutes < 10 else 1)] for minutes, video in videos.items()}
        for minutes, several in runs.items():
            wall_s, peak = statistics.median(r.wall_s for r in several), max(r.peak_mib for r in several)
            net = minutes * 60 / (wall_s - start_up)
            print(
                f"{minutes:3d} min: {wall_s:6.2f} s, {minutes * 60 / wall_s:5.1f}x real time, {net:5.1f}x after start-up; "
                f"peak {peak:.0f} MiB"
            )
        growth = runs[options.minutes][0].peak_mib - statistics.median(r.peak_mib for r in runs[2])
        print(f"{options.minutes} min needs {growth:+.0f} MiB over 2 min")

        pairs = [(run(detect(videos[2])).wall_s, run(usual_command(videos[2])).wall_s) for _ in range(RUNS)]
        ratio = statistics.median(usual / ours for ours, usual in pairs)
        usual_s = statistics.median(usual for _, usual in pairs)
        print(f"the usual script on 2 min: {usual_s:.2f} s; tal-run is {ratio:.1f}x as fast (median of {RUNS} pairs)")


def detect(video: Path) -> list[str]:
    return [sys.executable, "-m", "tal_run.pipeline.cli", "detect", str(video), "--query", QUERY]


def usual_command(video: Path) -> list[str]:
    return [sys.executable, __file__, "usual", str(video)]


def run(command: Sequence[str]) -> Run:
    """Run a command to its end, watching the memory of it and its children."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    peaks: dict[int, float] = {}
    while process.poll() is None:
        for pid in (process.pid, *children_of(process.pid)):
            peaks[pid] = max(peaks.get(pid, 0.0), peak_mib_of(pid))
        time.sleep(POLL_S)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}")
    return Run(time.perf_counter() - start, sum(peaks.values()))


def children_of(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def peak_mib_of(pid: int) -> float:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM")), 0.0)


def two_minutes(folder: Path, clips: Path) -> Path:
    """The composed videos of one round, the longest of them."""
    compose(folder / "composed", clips=clips, rounds=1)
    return max((folder / "composed").glob("*.mp4"), key=lambda path: path.stat().st_size)


def repeated(source: Path, target: Path, seconds: float) -> Path:
    """A video's packets over and over, without coding them again, until it is long enough."""
    with av.open(str(target), "w") as out:
        stream, offset = None, 0
        while True:
            with av.open(str(source)) as container:
                template = container.streams.video[0]
                stream = stream or out.add_stream_from_template(template)
                end = 0
                for packet in container.demux(template):
                    if packet.dts is None:
                        continue
                    end = max(end, packet.pts + packet.duration)
                    packet.pts, packet.dts, packet.stream = packet.pts + offset, packet.dts + offset, stream
                    if packet.dts * template.time_base >= seconds:
                        return target
                    out.mux(packet)
                offset += end


def usual_script(video: str) -> None:
    from ai_edge_litert.interpreter import Interpreter

    from tal_run.extractors.movinet import NETWORK
    from tal_run.extractors.weights import locate

    runner = Interpreter(str(locate(NETWORK)[0]), num_threads=2).get_signature_runner()
    inputs = runner.get_input_details()
    start = {name: np.zeros(entry["shape"], entry["dtype"]) for name, entry in inputs.items() if name != "image"}
    frames = []
    with av.open(video) as container:
        for index, frame in enumerate(container.decode(video=0)):
            picture = frame.to_ndarray(format="rgb24")  # every frame, as the usual reader gives them
            if index % 5 == 0:
                small = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(width=172, height=172).to_ndarray()
                frames.append(small.astype(np.float32) / 255)
    for first in range(0, len(frames) - 7, 4):
        state = dict(start)
        for picture in frames[first : first + 8]:
            state = runner(image=picture[None, None], **state)
            state.pop("logits")


if __name__ == "__main__":
    if sys.argv[1:2] == ["usual"]:
        usual_script(sys.argv[2])
    else:
        main()
