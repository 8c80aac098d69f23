"""What `tal-run batch` costs beside the same work in one process, what a second worker brings, and what large jobs come to.

    python tests/benchmarks/batch.py [--videos 100] [--seconds 4] [--rounds 1] [--tiny 1000]    measures (minutes)
    python tests/benchmarks/batch.py --model                                                  SCALING.md's arithmetic (at once)

The videos are made, 160 x 120 at 25 fps, and watched by the starter. Time is given by the clock and in CPU seconds (user and
system, all processes); on a busy machine only the latter says anything about overhead. ``one process`` is a `Detector` that
watches one video after the other and writes what it found, start and network included, as those of the batch are. It and one
worker have one core, two workers have two, so that none borrows what the other is to be measured with; of each, the median of
the rounds, which take turns. Memory is the resident size of the parent, read while it works. ``attend`` is all that the parent
does about a video (claim, look, write, give back), with a worker that answers at once.

Below 85 % of one process, or 1.7 times one worker with two, the exit status is 1.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import tracemalloc
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

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
LEAST_OF_ONE_PROCESS, LEAST_OF_TWO_WORKERS = 0.85, 1.7

# What was measured (BENCHMARKS.md), on two cores with nothing else to do, decoding included: times real time.
CORES_THEN = 2
TIMES_REAL_TIME = {
    "MoViNet-A0, 320x240, videos of an hour": 55.0,
    "MoViNet-A0, 320x240, videos of 2 min": 46.0,
    "starter, made video": 11.0,
    "two-stream I3D with TV-L1, 340x256": 0.89,
}
FLOW_SHARE, NETWORK_SHARE = 0.53, 0.41  # of the processors' time, two-stream I3D
# What is taken for granted; put in your own
HOURS = 1e6
CORES_A_MACHINE, MACHINES = 64, 100
MBIT_PER_S = 2.0  # of a video
LINK_GBIT_PER_S = 10.0
MINUTES_A_VIDEO = 5.0


@dataclass(frozen=True)
class Cost:
    """Seconds by the clock and of CPU, and the parent's memory in MiB at its first tenth and at its most."""

    clock_s: float
    cpu_s: float
    early_mib: float = 0.0
    most_mib: float = 0.0


def model() -> str:
    """The tables of SCALING.md that follow from what was measured, by arithmetic alone."""
    lines = [
        "| backbone | times real time | cores | hours of video a core-hour | core-hours for a million hours | "
        f"days on {MACHINES} machines of {CORES_A_MACHINE} cores |",
        "|---|---|---|---|---|---|",
    ]
    a_core = {name: times / CORES_THEN for name, times in TIMES_REAL_TIME.items()}
    for name, times in TIMES_REAL_TIME.items():
        core_hours = HOURS / a_core[name]
        days = core_hours / (MACHINES * CORES_A_MACHINE) / 24
        lines.append(f"| {name} | {times:g} | {CORES_THEN} | {a_core[name]:.3g} | {core_hours:,.0f} | {days:.2g} |")
    hour_gb = MBIT_PER_S * 3600 / 8 / 1000
    videos = HOURS * 60 / MINUTES_A_VIDEO
    lines += [
        "",
        f"An hour of video of {MBIT_PER_S:g} Mbit/s is {MBIT_PER_S:g} x 3,600 / 8 / 1,000 = {hour_gb:g} GB, a million hours "
        f"{hour_gb * HOURS / 1e6:g} PB. As videos of {MINUTES_A_VIDEO:g} minutes they are {videos / 1e6:g} million files.",
        "",
        f"| backbone | a core reads, Mbit/s | cores that {LINK_GBIT_PER_S:g} Gbit/s feed | a video of {MINUTES_A_VIDEO:g} min "
        "takes a core | videos a second, all cores |",
        "|---|---|---|---|---|",
    ]
    for name, hours in a_core.items():
        reads = hours * MBIT_PER_S
        takes_s = MINUTES_A_VIDEO * 60 / hours
        a_second = MACHINES * CORES_A_MACHINE / takes_s
        feeds = LINK_GBIT_PER_S * 1000 / reads
        lines.append(f"| {name} | {reads:.3g} | {feeds:,.0f} | {takes_s:,.0f} s | {a_second:,.0f} |")
    i3d = a_core["two-stream I3D with TV-L1, 340x256"]
    lines += [
        "",
        f"Of the {1 / i3d:.2f} core-hours that an hour of two-stream I3D takes, flow has {FLOW_SHARE / i3d:.2f}, the networks "
        f"{NETWORK_SHARE / i3d:.2f}. Networks that cost nothing would make it {1 / (1 - NETWORK_SHARE):.1f} times as fast, no "
        f"more; with flow that costs nothing, too, {1 / (1 - NETWORK_SHARE - FLOW_SHARE):.0f} times.",
    ]
    return "\n".join(lines) + "\n"


def make_videos(folder: Path, *, count: int, seconds: float) -> None:
    """Videos of a square that crosses the picture; ten that differ, the others links to them, which are files of their own."""
    import av
    import numpy as np

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


def cost(command: list[str], *, cores: int | None = None, videos: int = 0, out: Path | None = None) -> Cost:
    """Of a process and all its children, on so many cores."""
    usable = sorted(os.sched_getaffinity(0))
    if cores is not None and len(usable) < cores:
        raise SystemExit(f"this machine lets us use {len(usable)} cores, and {cores} are needed")
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began_s = time.monotonic()
    early = most = 0.0
    try:
        os.sched_setaffinity(0, usable[:cores])  # children have it, too
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    finally:
        os.sched_setaffinity(0, usable)
    with process:
        while process.poll() is None:
            if out:
                now = resident_mib(process.pid)
                most = max(most, now)
                if not early and sum(1 for _ in out.glob("results/*.json")) >= videos / 10:
                    early = now
            time.sleep(0.2 if out else 0.02)
        clock_s = time.monotonic() - began_s
        assert process.stderr
        said = process.stderr.read()
    if process.returncode:
        raise SystemExit(said)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Cost(clock_s, cpu_s, early, most)


def resident_mib(pid: int) -> float:
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


class AtOnce:
    """A worker that has found ten things before it is asked."""

    made_by: dict[str, Any] = {"weights": "none"}  # noqa: RUF012 - it stays as it is

    def begin(self, **_: object) -> dict[str, Any]:
        return {"made_by": self.made_by}

    def do(self, task: dict[str, Any], **_: object) -> dict[str, Any]:
        found = [{"label": "jump", "score": 0.5, "segment": [float(k), k + 0.5]} for k in range(10)]
        document = {"version": "none", "results": {task["video_id"]: found}, "external_data": {}}
        return {"document": document, "video_sha256": "0" * 64, "duration_s": 1.0}


def parent_alone(folder: Path, out: Path) -> tuple[float, float, float]:
    """Milliseconds of CPU that the parent takes for a video, bytes that it keeps of it, and bytes of its record."""
    from tal_run.pipeline.batch import at_work
    from tal_run.pipeline.batch_store import Store
    from tal_run.pipeline.batch_videos import videos_in_folder

    tracemalloc.start()
    videos, _ = videos_in_folder(folder)
    kept = tracemalloc.get_traced_memory()[0] / len(videos)
    tracemalloc.stop()
    with at_work(Store(out), AtOnce.made_by) as job:
        began_s = time.process_time()
        for video in videos:
            job.attend(video, AtOnce())
        taken_s = time.process_time() - began_s
    sizes = [path.stat().st_size for path in out.glob("results/*.json")]
    return 1000 * taken_s / len(videos), kept, statistics.mean(sizes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--videos", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--tiny", type=int, default=1000)
    parser.add_argument("--model", action="store_true", help="print SCALING.md's arithmetic, and measure nothing")
    arguments = parser.parse_args()
    if arguments.model:
        print(model(), end="")
        return
    with tempfile.TemporaryDirectory() as name:
        sys.exit(measured(Path(name), arguments))


def measured(folder: Path, arguments: argparse.Namespace) -> int:
    make_videos(folder / "videos", count=arguments.videos, seconds=arguments.seconds)
    make_videos(folder / "tiny", count=arguments.tiny, seconds=0.4)
    batch = [sys.executable, "-m", "tal_run.pipeline.cli", "batch"]
    options = ["--backbone", "starter", "--quiet"]
    rounds: dict[str, list[Cost]] = {"one process, one core": [], "`--workers 1`, one core": [], "`--workers 2`, two cores": []}
    loads = [os.getloadavg()[0]]
    for number in range(arguments.rounds):
        for (what, costs), cores in zip(rounds.items(), (1, 1, 2), strict=True):
            out = folder / f"{number}-{len(what)}-{cores}"
            out.mkdir()
            if "process" in what:
                command = [sys.executable, "-c", ONE_PROCESS, str(folder / "videos"), str(out)]
            else:
                command = [*batch, str(folder / "videos"), "-o", str(out), "--workers", f"{cores}", *options]
            costs.append(cost(command, cores=cores))
        loads.append(os.getloadavg()[0])
    clock = {what: statistics.median(spent.clock_s for spent in costs) for what, costs in rounds.items()}
    cpu = {what: statistics.median(spent.cpu_s for spent in costs) for what, costs in rounds.items()}
    one, worker, two = clock
    print(f"{arguments.videos} videos of {arguments.seconds:g} s; {arguments.rounds} rounds; ", end="")
    print(f"load {loads[0]:.1f} before, which idle machines have near 0; {os.cpu_count()} cores\n")
    print("| | seconds | CPU seconds | speed beside one process | by CPU |\n|---|---|---|---|---|")
    for what in clock:
        shares = f"{clock[one] / clock[what]:.2f} | {cpu[one] / cpu[what]:.2f}"
        print(f"| {what} | {clock[what]:.1f} | {cpu[what]:.1f} | {shares} |")
    of_one, of_two = clock[one] / clock[worker], clock[worker] / clock[two]
    print(f"\none worker: {of_one:.0%} of one process (at least {LEAST_OF_ONE_PROCESS:.0%})")
    print(f"two workers: {of_two:.2f} times one (at least {LEAST_OF_TWO_WORKERS})")
    out = folder / "tiny out"
    many = cost([*batch, str(folder / "tiny"), "-o", str(out), "--workers", "1", *options], videos=arguments.tiny, out=out)
    print(f"parent over {arguments.tiny} videos: {many.early_mib:.1f} MiB at a tenth, {many.most_mib:.1f} MiB at most")
    taken_ms, kept, record = parent_alone(folder / "tiny", folder / "alone")
    print(
        f"attend: {taken_ms:.2f} ms of CPU a video, {1000 / taken_ms:.0f} videos a second; {kept:.0f} bytes kept of each; ",
        end="",
    )
    print(f"a record with ten detections has {record:.0f} bytes")
    return int(of_one < LEAST_OF_ONE_PROCESS or of_two < LEAST_OF_TWO_WORKERS)


if __name__ == "__main__":
    main()
