"""A detector that costs nothing and does what a file's text tells it to, and batches of such files, as whole processes.

A file says ``found 3``, or with ``sleep 0.2`` before it how long that takes. Other words do harm: ``crash``, ``hang``,
``memory``, ``error``, ``odd``, ``orphan`` (its parent is killed). What each run does is counted in a file outside OUT.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tal_run.pipeline import cli, cli_batch

MODULE = "fake_detector"
WORKER = """
import hashlib, os, signal, time
from pathlib import Path
from tal_run.extractors.errors import TalRunError
from tal_run.pipeline.workers import serve

def begin(how, hook):
    def answer(task, hook):
        path = Path(task["path"])
        try:
            content = path.read_bytes()
        except OSError as error:
            raise TalRunError(f"cannot be read ({error.strerror})")
        digest = hashlib.sha256(content).hexdigest()
        if task["known_sha256"] == digest:
            return {"is_unchanged": True}
        with open(os.environ["FAKE_LOG"], "ab") as log:
            log.write(os.fsencode(path.name.replace("\\n", " ")) + b"\\n")
        hook("watching", completed=0.0, total=1.0)
        words = content.decode().split()
        for word, value in zip(words, words[1:] + [""]):
            if word == "sleep":
                time.sleep(float(value))
            elif word == "crash":
                os.kill(os.getpid(), signal.SIGSEGV)
            elif word == "once" and not Path(value).exists():
                Path(value).touch()
                os.kill(os.getpid(), signal.SIGKILL)
            elif word == "orphan":
                os.kill(os.getppid(), signal.SIGKILL)
                time.sleep(60)
            elif word == "hang":
                signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
                time.sleep(600)
            elif word == "memory":
                kept = bytearray(os.urandom(1 << 20) * 400)
                time.sleep(60)
            elif word == "error":
                raise TalRunError("is broken: mend it")
            elif word == "odd":
                raise KeyError("surprise")
            elif word == "grow":
                with path.open("ab") as file:
                    file.write(b" x")
        found = [
            {"label": "jump", "score": 0.5 + k / 100, "segment": [float(k), k + 0.5]}
            for k in range(int(words[words.index("found") + 1]))
        ]
        document = {"version": "fake", "results": {task["video_id"]: found}, "external_data": {}}
        return {"document": document, "video_sha256": digest, "duration_s": 1.0}
    if how["queries"] == ["nonsense"]:
        raise TalRunError("nothing matches: ask otherwise")
    return {"made_by": {"queries": how["queries"], "weights": os.environ.get("FAKE_WEIGHTS", "1")}, "notes": ["a fake"]}, answer

serve(begin)
"""
RUNNER = "import sys; from tal_run.pipeline import cli_batch, cli; cli_batch.MODULE = 'fake_detector'; cli.main()"


class Case:
    """A folder of texts that pass for videos, and runs over it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.videos = folder, folder / "videos"
        self.videos.mkdir()
        (folder / f"{MODULE}.py").write_text(WORKER)
        self.log = folder / "log"
        self.out = folder / "out"

    @property
    def environment(self) -> dict[str, str]:
        path = os.pathsep.join(filter(None, [str(self.folder), os.environ.get("PYTHONPATH")]))
        return {**os.environ, "PYTHONPATH": path, "FAKE_LOG": str(self.log)}

    def write(self, name: str, text: str = "found 2") -> Path:
        path = self.videos / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def start(
        self, *arguments: str | Path, out: Path | None = None, before: str = "", **environment: str
    ) -> subprocess.Popen[str]:
        """A run as a whole process; ``before``: Python that it runs first."""
        command = [sys.executable, "-c", before + RUNNER, "batch", str(self.videos), "-o", str(out or self.out)]
        command += map(str, arguments)
        return subprocess.Popen(
            command,
            env={**self.environment, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.folder,
        )

    def run(self, *arguments: str | Path, out: Path | None = None, **environment: str) -> tuple[int, str]:
        """Exit status and what was said; the parent runs in this process, the workers in their own."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(cli_batch, "MODULE", MODULE)
            for name, value in {**self.environment, **environment}.items():
                patch.setenv(name, value)
            command = ["batch", str(self.videos), "-o", str(out or self.out), *map(str, arguments)]
            result = CliRunner().invoke(cli.main, command, catch_exceptions=False)
        return result.exit_code, result.stderr

    def watched(self) -> list[str]:
        """The videos that were really watched since this was asked last, in that order."""
        names = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        self.log.unlink(missing_ok=True)
        return names

    def results(self, out: Path | None = None) -> dict[str, bytes]:
        """The content of all results, by their path."""
        return contents((out or self.out) / "results")

    def failures(self, out: Path | None = None) -> dict[str, Any]:
        """All failure records, by the video's name."""
        records = [json.loads(content) for content in contents((out or self.out) / "failures").values()]
        return {record["video"]: record for record in records}

    def manifest(self, out: Path | None = None) -> dict[str, Any]:
        """A line a video, by its name; checks the counts."""
        lines = [json.loads(line) for line in ((out or self.out) / "manifest.jsonl").read_text().splitlines()]
        videos = {line["video"]: line for line in lines[1:-1]}
        states = [line["state"] for line in videos.values()]
        assert lines[-1]["counts"] == {state: states.count(state) for state in set(states)}
        return videos


def contents(folder: Path) -> dict[str, bytes]:
    """The bytes of all files below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def leftovers(out: Path) -> list[Path]:
    """What nobody should find in a folder when no run is at work there."""
    return [path for path in out.rglob("*") if path.name.startswith(".tal-run-")] + list(out.glob("locks"))


def disturbed(case: Any, *, kills: int, rng: random.Random, most_s: float = 1.0) -> dict[str, int]:
    """Kill runs and their workers at random moments, so many times; each job, once it is done, must equal an undisturbed one.

    Returns:
        How often what was killed, and how many jobs came to their end.
    """
    for number in range(24):
        case.write(f"{number % 3}/{number:02}.mp4", f"sleep {rng.random() / 5:.3f} found {rng.randrange(40)}")
    case.write("bad.mp4", "error")
    calm = case.folder / "calm"
    status, said = case.run("--workers", "2", out=calm)
    assert status == 1, said
    counts = {"runs": 0, "workers": 0, "jobs": 0}
    while counts["runs"] + counts["workers"] < kills:
        shutil.rmtree(case.out, ignore_errors=True)
        is_done = False
        while not is_done and counts["runs"] + counts["workers"] < kills:
            runs = [case.start("--workers", "2") for _ in range(rng.choice([1, 1, 2]))]
            before = case.log.stat().st_size if case.log.exists() else 0
            if rng.random() < 0.8:  # else anywhere, also while it begins
                end_s = time.monotonic() + 20
                while time.monotonic() < end_s and runs[0].poll() is None:
                    if case.log.exists() and case.log.stat().st_size > before:
                        break
                    time.sleep(0.005)
            time.sleep(rng.random() * most_s)
            victims = [run.pid for run in runs if run.poll() is None]
            workers = [child for victim in victims for child in children(victim)]
            if workers and rng.random() < 0.3:
                kill(rng.choice(workers))
                counts["workers"] += 1
            else:
                for victim in victims:
                    kill(victim)
                    counts["runs"] += 1
            ended = [run.communicate(timeout=100) and run.returncode for run in runs]
            for name, content in case.results().items():
                if not Path(name).name.startswith(".tal-run-"):  # what was being written goes with the next run
                    json.loads(content)  # none is half-written
            is_done = any(status in (0, 1) for status in ended)
        # what was killed while a video was in hand has cost it an attempt; twice, and it is a failure
        status, said = case.run("--retry-failed")
        assert status == 1, said
        assert case.results() == case.results(calm)
        assert set(case.failures()) == set(case.failures(calm)) == {"bad.mp4"}
        assert (case.out / "detections.csv").read_bytes() == (calm / "detections.csv").read_bytes()
        assert leftovers(case.out) == []
        counts["jobs"] += 1
    return counts


def children(pid: int) -> list[int]:
    """The processes that a process has begun."""
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        return [int(child) for task in tasks for child in (task / "children").read_text().split()]
    except OSError:
        return []


def kill(pid: int) -> None:
    """SIGKILL, to what may be gone."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
