"""What `tal-run batch` costs beside the same work in one process, what a second worker brings, and the parent's memory.

    python tests/benchmarks/batch.py [--videos 100] [--seconds 4] [--tiny 1000]

The videos are made, 160 x 120 at 25 fps, and watched by the starter. Time is given by the clock and in CPU seconds (user and
system, all processes); on a busy machine only the latter says anything about overhead. ``one process`` is a `Detector` that
watches one video after the other and writes what it found, start and network included, as those of the batch are. Memory is
the resident size of the parent, read while it works.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

ONE_PROCESS = """
import sys
from pathlib import Path
from tal_run.pipeline import outputs
from tal_run.pipeline.detector import DetectConfig, Detector
detector = Detector(DetectConfig(backbone="starter"))
for number, path in enumerate(sorted(Path(sys.argv[1]).rglob("*.mp4"))):
    result = detector.detect(path)
    made_by = outputs.external_data(detector, [], {path.stem: result})
    outputs.write(Path(sys.argv[2], f"{number}.json"), outputs.rendered("json", {path.stem: result.detections}, made_by))
"""


@dataclass(frozen=True)
class Cost:
    """Seconds by the clock and of CPU, and the parent's memory in MiB at its first tenth and at its most."""

    clock_s: float
    cpu_s: float
    early_mib: float = 0.0
    most_mib: float = 0.0


def make_videos(folder: Path, *, count: int, seconds: float) -> None:
    """Videos of a square that crosses the picture; ten that differ, the others links to them, which are files of their own."""
    folder.mkdir()
    for number in range(count):
        path = folder / f"{number:04}.mp4"
        if number >= 10:
            path.symlink_to(folder / f"{number % 10:04}.mp4")
            continue
        with av.open(str(path), "w") as container:
            stream = container.add_stream("libx264", rate=25, options={"preset": "ultrafast", "bf": "0"})
            stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
            for index in range(round(seconds * 25)):
                picture = np.full((120, 160, 3), 110, np.uint8)
                left = (3 * index + 11 * number) % 120
                picture[40:90, left : left + 40] = 20 * number
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                frame.pts, frame.time_base = index, Fraction(1, 25)
                container.mux(stream.encode(frame))
            container.mux(stream.encode())


def cost(command: list[str], *, videos: int = 0, out: Path | None = None) -> Cost:
    """Of a process and all its children."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began_s = time.monotonic()
    early = most = 0.0
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        while process.poll() is None:
            if out:
                now = resident_mib(process.pid)
                most = max(most, now)
                if not early and sum(1 for _ in out.glob("results/*.json")) >= videos / 10:
                    early = now
            time.sleep(0.2)
        assert process.stderr
        said = process.stderr.read()
    if process.returncode:
        raise SystemExit(said)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Cost(time.monotonic() - began_s, cpu_s, early, most)


def resident_mib(pid: int) -> float:
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--videos", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--tiny", type=int, default=1000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_videos(folder / "videos", count=arguments.videos, seconds=arguments.seconds)
        make_videos(folder / "tiny", count=arguments.tiny, seconds=0.4)
        (folder / "one").mkdir()
        batch = [sys.executable, "-m", "tal_run.pipeline.cli", "batch"]
        options = ["--backbone", "starter", "--quiet"]
        one = cost([sys.executable, "-c", ONE_PROCESS, str(folder / "videos"), str(folder / "one")])
        costs = {
            workers: cost(
                [*batch, str(folder / "videos"), "-o", str(folder / f"{workers}"), "--workers", f"{workers}", *options]
            )
            for workers in (1, 2)
        }
        load = os.getloadavg()[0]
        print(f"{arguments.videos} videos of {arguments.seconds:g} s; {os.cpu_count()} cores; load {load:.1f}")
        print(f"one process   {one.clock_s:7.1f} s {one.cpu_s:7.1f} CPU s")
        for workers, spent in costs.items():
            speeds = f"{one.clock_s / spent.clock_s:.2f} by the clock, {one.cpu_s / spent.cpu_s:.2f} by CPU"
            print(f"workers: {workers}    {spent.clock_s:7.1f} s {spent.cpu_s:7.1f} CPU s; speed beside one process: {speeds}")
        print(f"two workers against one: {costs[1].clock_s / costs[2].clock_s:.2f} by the clock")
        out = folder / "tiny out"
        many = cost([*batch, str(folder / "tiny"), "-o", str(out), "--workers", "1", *options], videos=arguments.tiny, out=out)
        print(f"parent over {arguments.tiny} videos: {many.early_mib:.1f} MiB at a tenth, {many.most_mib:.1f} MiB at most")


if __name__ == "__main__":
    main()
