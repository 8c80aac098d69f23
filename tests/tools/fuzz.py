"""Damaged files through tal-run, as many as asked for: every one must end in frames, in features or in a sentence.

    make fuzz                                    10,000 videos, 4,000 other files, 500 videos in one batch
    python tests/tools/fuzz.py videos --files 300 --seed 7
    python tests/tools/fuzz.py videos --seed 7 --case 123      the one file again, kept in OUT/cases, with what comes of it
    python tests/tools/fuzz.py batch --files 500 -o out/fuzz
    python tests/tools/fuzz.py check FOLDER OUT STDERR         whether a batch accounts for every video of a folder

Each file is drawn by a generator that its seed and number alone start, so a journal's line is enough to have it again. What a
file came to stands there, a line each:

    whole     frames to the end, and nothing to say
    in part   frames, and a note on what is wrong
    refused   a sentence with the cause and the cure (so far as it came, frames before it)
    finding   anything else: a hang, an exception of another family, frames at wrong times or of a wrong shape, a sentence
              that is none. The parent's memory and open files are watched too, and so are decoders that nobody ended.

The exit status is 1 if there is a finding. Decoders that crash or hang are stopped and end in a sentence, which is what is
promised; they are counted, and named at the end.
"""

from __future__ import annotations

import argparse
import faulthandler
import hashlib
import json
import logging
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from pathlib import Path
from random import Random
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import numpy as np
from corpus import corpus
from mutate import mutated
from warm_decoder import session_of, warm_command

from tal_run.extractors.errors import TalRunError
from tal_run.extractors.video import DecodeLimits, VideoError, open_video
from tal_run.extractors.wire import printable

WHOLE, PART, REFUSED, FINDING = "whole", "in part", "refused", "finding"
BUDGET_S = 60.0  # of wall time for a file: more is a hang
STALL_S = 20.0
MOST_SAMPLES = 400  # of one file: timestamps may say that a second of video lasts a week
WARM_UP = 200  # files after which the parent's memory should not grow
MOST_GROWTH_BYTES = 24 << 20
# how samples are asked for: as networks do, and otherwise
WAYS: tuple[dict[str, Any], ...] = (
    {"short_side": 32, "crop": (32, 32)},
    {"short_side": 32},
    {"size": (24, 40)},
    {"size": (32, 32), "interpolation": "opencv"},
    {},
)
RATES = (Fraction(1, 2), 1, 5, 12, 25, Fraction(30000, 1001))
# words of exceptions that were not foreseen
RAW = re.compile(r"Traceback|\.py\b|\b(\w+Error|Exception)\b|\[Errno|0x[0-9a-f]{4}|<class|object at 0")


class OverdueError(BaseException):
    """A file took longer than it may; no ``except Exception`` may swallow that."""


@dataclass
class Outcome:
    """What a file came to."""

    kind: str
    says: list[str] = field(default_factory=list)
    frames: int = 0
    cause: str = ""


# ---- one file ----


def read_video(path: Path, rng: Random, *, limits: DecodeLimits, command: Sequence[str]) -> Outcome:
    """Read a file as a command would, and check what comes."""
    frames = 0
    decoder = rng.choice(("auto", "auto", "auto", "auto", "decord", "pyav"))
    way, rate = rng.choice(WAYS), Fraction(rng.choice(RATES))
    try:
        with open_video(path, decoder=decoder, limits=limits, _command=command) as video:
            info = video.info
            if fault := _fault_of_info(info):
                return Outcome(FINDING, [fault])
            if info.duration_s * rate > MOST_SAMPLES:
                rate = Fraction(MOST_SAMPLES) / Fraction(info.duration_s)
            shape = None
            for chunk in video.frames(fps=rate, **way):
                if chunk.first_index != frames or (shape is not None and chunk.frames.shape[1:] != shape):
                    return Outcome(FINDING, [f"frames of shape {chunk.frames.shape} from {chunk.first_index}"], frames)
                shape = chunk.frames.shape[1:]
                frames += len(chunk)
                if not np.allclose(chunk.times_s, np.arange(chunk.first_index, frames) / float(rate), rtol=1e-9):
                    return Outcome(FINDING, [f"frames at {chunk.times_s}"], frames)
            notes = list(video.notes)
        if not 1 <= frames <= info.duration_s * rate + 1:
            return Outcome(FINDING, [f"{frames} frames of {info.duration_s} s at {float(rate)} a second"], frames)
        if fault := next(filter(None, map(fault_of_note, notes)), None):
            return Outcome(FINDING, [fault, *notes], frames)
        return Outcome(PART if notes else WHOLE, notes, frames)
    except VideoError as error:
        cause = getattr(error.__cause__, "cause", "")
        fault = fault_of_sentence(str(error))
        return Outcome(FINDING if fault else REFUSED, [*([fault] if fault else []), str(error)], frames, cause)


def _fault_of_info(info: Any) -> str | None:
    """What is told of a video and cannot be."""
    numbers = (info.width, info.height, info.duration_s, info.frame_count, info.frame_rate)
    if not all(np.isfinite(number) and number > 0 for number in numbers):
        return f"impossible: {info}"
    return None


def fault_of_sentence(text: str, *, is_strict: bool = True) -> str | None:
    """Why an error's text is no sentence with cause and cure; None: it is one."""
    if not text.isprintable() or not 10 < len(text) <= 2000:
        return "a sentence that is none (its characters or its length)"
    if "not foreseen" in text or "please report" in text or (is_strict and RAW.search(text)):
        return "a sentence in a dependency's words"
    # the cure follows a semicolon or a colon
    if not re.search(r"[;:,] .{6,}", text):
        return "a sentence without a cure"
    return None


def fault_of_note(text: str) -> str | None:
    """Why a note is none; None: it is one."""
    if not text.isprintable() or RAW.search(text):
        return "a note in a dependency's words"
    return None


@contextmanager
def overdue_after(seconds: float) -> Iterator[None]:
    """Whatever is done inside ends after that time with an ``OverdueError``."""

    def ring(*_: object) -> None:
        raise OverdueError

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def judged(read: Callable[[], Outcome], *, budget_s: float = BUDGET_S, is_strict: bool = True) -> Outcome:
    """What reading comes to, whatever it raises; if not ``is_strict``, a sentence may hold an exception's name."""
    try:
        with overdue_after(budget_s):
            return read()
    except OverdueError:
        return Outcome(FINDING, [f"hang: more than {budget_s:g} s"])
    except TalRunError as error:
        fault = fault_of_sentence(str(error), is_strict=is_strict)
        return Outcome(FINDING if fault else REFUSED, [*([fault] if fault else []), str(error)])
    except Exception as error:  # noqa: BLE001 - that is what is looked for
        place = traceback.extract_tb(error.__traceback__)[-3:]
        where = " < ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in reversed(place))
        return Outcome(FINDING, [f"{type(error).__name__}: {printable(error)} ({where})"])


# ---- many files ----


class Journal:
    """A line a file, written at once, so that the last one tells where a crash came."""

    def __init__(self, path: Path | None) -> None:
        self.counts: Counter[str] = Counter()
        self.causes: Counter[str] = Counter()
        self.findings: list[dict[str, Any]] = []
        self.named: list[str] = []
        if path:
            path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("w", encoding="utf-8") if path else None

    def add(self, outcome: Outcome, **about: Any) -> None:
        """What became of one file."""
        entry = {**about, **asdict(outcome)}
        self.counts[outcome.kind] += 1
        if outcome.cause:
            self.causes[outcome.cause] += 1
        if outcome.cause in ("died", "stalled", "nonsense", "changed", "no_process", "memory", "decoder"):
            self.named.append(f"case {about.get('case')}: {outcome.cause}: {outcome.says[-1]}")
        if outcome.kind == FINDING:
            self.findings.append(entry)
            print("FINDING", json.dumps(entry), flush=True)
        if self._file:
            self._file.write(json.dumps(entry) + "\n")
            self._file.flush()


def resident_bytes() -> int:
    """This process's memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def cpu_s() -> float:
    """Of this process and of those that it has waited for."""
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


class Watch:
    """The parent's memory and open files over a run."""

    def __init__(self) -> None:
        self.files, self.start_bytes, self.peak_bytes = 0, 0, 0
        self.descriptors = len(list(Path("/proc/self/fd").iterdir()))
        self.started_s, self.started_cpu_s = time.monotonic(), cpu_s()

    def tick(self) -> None:
        """After each file."""
        self.files += 1
        if self.files == WARM_UP:
            self.start_bytes = resident_bytes()
        if self.files % 50 == 0:
            self.peak_bytes = max(self.peak_bytes, resident_bytes())

    def findings(self) -> list[str]:
        """Growth."""
        grown = resident_bytes() - self.start_bytes if self.start_bytes else 0
        descriptors = len(list(Path("/proc/self/fd").iterdir()))
        return [
            *([f"the parent grew by {grown >> 20} MiB"] if grown > MOST_GROWTH_BYTES else []),
            *([f"{descriptors} open files, {self.descriptors} at first"] if descriptors > self.descriptors + 2 else []),
        ]

    def __str__(self) -> str:
        before = f"{self.start_bytes / 2**20:.1f} MiB after {WARM_UP} files, " if self.start_bytes else ""
        return (
            f"parent {before}{resident_bytes() / 2**20:.1f} MiB at the end, "
            f"at most {self.peak_bytes / 2**20:.1f} MiB; {cpu_s() - self.started_cpu_s:.0f} s of processor time, "
            f"{time.monotonic() - self.started_s:.0f} s by the clock"
        )


def summary(what: str, journal: Journal, watch: Watch) -> int:
    """Print what came of it all.

    Returns:
        How many findings there are.
    """
    for sentence in watch.findings():
        journal.findings.append({"says": [sentence]})
        print("FINDING", sentence)
    print(f"{what}: {sum(journal.counts.values())} files: {dict(sorted(journal.counts.items()))}")
    if journal.causes:
        print(f"  refused because: {dict(journal.causes.most_common())}")
    print(f"  {watch}")
    for line in journal.named[:40]:
        print(f"  {line}")
    print(f"  {len(journal.findings)} findings")
    return len(journal.findings)


def damaged_video(videos: dict[str, tuple[bytes, str]], seed: str, case: int) -> tuple[str, bytes, str, list[str], Random]:
    """The base's name, the damaged bytes, the ending, what was done, and the generator as it stands then."""
    rng = Random(f"{seed}/{case}")
    name = rng.choice(sorted(videos))
    content, ending = videos[name]
    others = [videos[other][0] for other in rng.sample(sorted(videos), 3)]
    data, what = mutated(content, rng, others)
    if rng.random() < 0.1:
        ending = rng.choice((".mp4", ".mkv", ".avi", ".webm", ".ts", ".mov", ".m3u8"))
    return name, data, ending, what, rng


def fuzz_videos(args: argparse.Namespace) -> int:
    """Damaged videos through the decoder process.

    Returns:
        How many findings there are.
    """
    from contextlib import nullcontext

    from tal_run.extractors.decoder_process import COMMAND

    videos = corpus(clips=args.clips)
    cases = [args.case] if args.case is not None else range(args.first, args.first + args.files)
    limits = DecodeLimits(stall_s=STALL_S, chunk_frames=16)
    with (
        tempfile.TemporaryDirectory(prefix="tal-run-fuzz-") as folder,
        nullcontext(COMMAND) if args.cold else warm_command() as command,
    ):
        journal, watch = Journal(args.out / "videos.jsonl" if args.case is None else None), Watch()
        for case in cases:
            name, data, ending, what, rng = damaged_video(videos, args.seed, case)
            path = Path(folder) / f"case{ending}"
            path.write_bytes(data)
            started_s = time.monotonic()
            outcome = judged(lambda p=path, r=rng: read_video(p, r, limits=limits, command=command))  # type: ignore[misc]
            about = {
                "case": case,
                "seed": args.seed,
                "base": name,
                "damage": what,
                "bytes": len(data),
                "sha256": hashlib.sha256(data).hexdigest()[:16],
                "wall_s": round(time.monotonic() - started_s, 3),
            }
            journal.add(outcome, **about)
            if args.case is not None or outcome.kind == FINDING:
                kept = args.out / "cases" / f"{args.seed}-{case}{ending}"
                kept.parent.mkdir(parents=True, exist_ok=True)
                kept.write_bytes(data)
                if args.case is not None:
                    print(json.dumps({**about, **asdict(outcome)}, indent=1), f"\nkept as {kept}")
            path.unlink()
            watch.tick()
        if not args.cold and (left := _left_over()):
            journal.add(Outcome(FINDING, [f"{len(left)} decoders that nobody ended"]))
        return summary("videos", journal, watch)


def _left_over() -> list[int]:
    """Warm decoders that still run a while after the last file."""
    servers = [
        int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit() and _parent_of(entry) == os.getpid()
    ]
    for _ in range(50):
        left = [pid for server in servers for pid in session_of(server)]
        if not left:
            return []
        time.sleep(0.1)
    return left


def _parent_of(entry: Path) -> int:
    try:
        return int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


# ---- batches ----


def write_folder(folder: Path, args: argparse.Namespace) -> list[str]:
    """Damaged videos in a folder, with a few sound ones among them; their names."""
    videos = corpus(clips=args.clips)
    folder.mkdir(parents=True, exist_ok=True)
    names = []
    for case in range(args.first, args.first + args.files):
        _, data, ending, _, rng = damaged_video(videos, args.seed, case)
        if case % 25 == 0:
            name = rng.choice(sorted(videos))
            data, ending = videos[name]
        ending = ending if ending != ".m3u8" else ".mp4"
        names.append(f"case{case:05d}{ending}")
        (folder / names[-1]).write_bytes(data)
    return names


def check_accounts(folder: Path, out: Path, said: str) -> list[str]:
    """Videos of a folder of which a batch neither made something nor said why not; and traces of what it did not foresee."""
    if (out / "manifest.jsonl").is_file():
        return [*_faults_of_manifest(folder, out), *_traces(out, said)]
    faults = []
    made = {path.name for path in out.rglob("*") if path.is_file() and not path.name.startswith(".")}
    for path in sorted(folder.iterdir()):
        results = [name for name in made if name.startswith(f"{path.stem}.") and name != f"{path.stem}.error"]
        lines = [line for line in said.splitlines() if path.name in line or re.search(rf"\b{re.escape(path.stem)}\b", line)]
        if not results and not lines:
            faults.append(f"{path.name} is not accounted for")
        faults += [f"{path.name}: {fault}: {line}" for line in lines if "rror" in line and (fault := _raw(line))]
    return [*faults, *_traces(out, said)]


def _traces(out: Path, said: str) -> list[str]:
    """Of what went wrong without being said."""
    left = [f"{path} was left behind" for path in out.rglob(".tal-run-*")]
    return [*(["a traceback on standard error"] if "Traceback" in said else []), *left]


def _faults_of_manifest(folder: Path, out: Path) -> list[str]:
    """What a batch's list of videos says and is not so, or does not say, or not in a sentence."""
    lines = [json.loads(line) for line in (out / "manifest.jsonl").read_text(encoding="utf-8").splitlines()]
    entries = [line for line in lines if "video" in line]
    faults = []
    of_features = not (out / "results").is_dir()  # which lie where their layout wants them, by the videos' names without ending
    if sorted(entry["video"] for entry in entries) != sorted(p.stem if of_features else p.name for p in folder.iterdir()):
        faults.append("the manifest lists other videos than there are, or one twice")
    listed = {entry.get("file") for entry in entries}
    there = {f"{kind}/{path.name}" for kind in ("results", "failures") for path in (out / kind).glob("*")}
    there |= {path.name for path in out.glob("*.npz")}
    if listed != there:
        faults.append(f"files that the manifest does not list, or lists and are not there: {sorted(listed ^ there)[:5]}")
    for entry in entries:
        if entry["state"] == "failed" and (fault := fault_of_sentence(entry["error"])):
            faults.append(f"{entry['video']}: {fault}: {entry['error']}")
        if entry["state"] not in ("done", "failed") or entry.get("kind") in ("unforeseen", "died"):
            faults.append(f"{entry['video']}: {entry}")
    counts = Counter(entry["state"] for entry in entries)
    if lines[-1].get("counts") != dict(counts):
        faults.append(f"the counts are {lines[-1]}, the lines {dict(counts)}")
    return faults


def _raw(line: str) -> str | None:
    text = re.sub(r"^\s*(Error|error)?:?\s*", "", line)
    return "in a dependency's words" if RAW.search(text) or "please report" in text else None


def fuzz_batch(args: argparse.Namespace) -> int:
    """Damaged videos through one command for a whole folder.

    Returns:
        How many findings there are.
    """
    args.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="tal-run-fuzz-") as scratch:
        folder, out = Path(scratch) / "videos", Path(scratch) / "out"
        write_folder(folder, args)
        before = {path.name: path.read_bytes() for path in folder.iterdir()}
        program = [sys.executable, "-P", "-m", "tal_run.pipeline.cli"]
        command = [*program, args.command, str(folder), "-o", str(out), "--backbone", "starter", *args.options]
        started_s, started_cpu_s, timeout_s = time.monotonic(), cpu_s(), 60.0 + 20 * args.files
        findings = []
        with (args.out / "batch.err").open("w+", encoding="utf-8", errors="replace") as errors:
            try:
                # the output is the errors' place too: what a batch says of a video may stand on either
                done = subprocess.run(command, stdout=errors, stderr=errors, timeout=timeout_s, check=False, cwd=scratch)
                status: int | None = done.returncode
            except subprocess.TimeoutExpired:
                status = None
            errors.seek(0)
            said = errors.read()
        if status not in (0, 1):
            findings.append(f"exit status {status}: {printable(said[-500:], 500)}")
        findings += check_accounts(folder, out, said)
        if before != {path.name: path.read_bytes() for path in folder.iterdir()}:
            findings.append("the videos were changed")
        if strangers := {path.name for path in Path(scratch).iterdir()} - {"videos", "out"}:
            findings.append(f"written outside of OUT: {sorted(strangers)}")
        made = len(list(out.rglob("*.npz")) or list(out.glob("results/*")))
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(
        f"batch ({args.command}): {args.files} videos: results of {made}, exit status {status}; largest process "
        f"{peak:.0f} MiB; {cpu_s() - started_cpu_s:.0f} s of processor time, {time.monotonic() - started_s:.0f} s by the clock"
    )
    for finding in findings:
        print("FINDING", finding)
    print(f"  {len(findings)} findings")
    return len(findings)


def fuzz_readers(args: argparse.Namespace) -> int:
    """Damaged files of every other kind through their readers.

    Returns:
        How many findings there are.
    """
    from readers import READERS

    total = 0
    for name, reader in READERS.items():
        if args.only and args.only not in name:
            continue
        with tempfile.TemporaryDirectory(prefix="tal-run-fuzz-") as folder:
            prepared = reader(Path(folder))
            journal, watch = Journal(args.out / f"{name}.jsonl" if args.case is None else None), Watch()
            cases = [args.case] if args.case is not None else range(args.first, args.first + max(1, args.files // len(READERS)))
            for case in cases:
                rng = Random(f"{args.seed}/{name}/{case}")
                what = prepared.damage(rng)
                # annotations tell the exception in brackets, beside the cure
                is_strict = not name.startswith("annotations")
                outcome = judged(lambda read=prepared.read: Outcome(WHOLE, [str(read())[:0]]), is_strict=is_strict)  # type: ignore[misc]
                journal.add(outcome, case=case, seed=args.seed, reader=name, damage=what)
                watch.tick()
            total += summary(name, journal, watch)
    return total


def main() -> None:
    """Carry out one of the commands; the exit status is 1 if there is a finding."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["videos", "readers", "batch", "folder", "check"])
    parser.add_argument("paths", nargs="*", type=Path)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--first", type=int, default=0, help="number of the first file")
    parser.add_argument("--seed", default="0")
    parser.add_argument("--case", type=int, help="only this one, and say all of it")
    parser.add_argument("--only", help="of readers: those whose name holds this")
    parser.add_argument("--clips", type=Path, help="a folder of real clips to be damaged as well")
    parser.add_argument("--cold", action="store_true", help="start every decoder as tal-run does, with a Python of its own")
    parser.add_argument("--command", default="features", help="of a batch: the command that takes a folder")
    parser.add_argument("--options", nargs="*", default=[], help="of a batch: more for that command, without their --")
    parser.add_argument("-o", "--out", type=Path, default=Path("out/fuzz"))
    args = parser.parse_intermixed_args()
    args.options = [f"--{option}" if not option.startswith("-") and option.isalpha() else option for option in args.options]
    faulthandler.enable()
    logging.getLogger("tal_run").setLevel(logging.ERROR)  # which decoder was left, and why
    if args.what == "folder":
        print(f"{len(write_folder(args.paths[0], args))} videos in {args.paths[0]}")
        return
    if args.what == "check":
        folder, out, said = args.paths
        faults = check_accounts(folder, out, said.read_text(encoding="utf-8", errors="replace"))
        print("\n".join(faults) or "every video is accounted for")
        sys.exit(bool(faults))
    sys.exit(bool({"videos": fuzz_videos, "readers": fuzz_readers, "batch": fuzz_batch}[args.what](args)))


if __name__ == "__main__":
    main()
