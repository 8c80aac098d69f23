"""The command for folders of thousands of videos. Nothing heavy is imported before it runs, and no network in this process."""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tal_run.pipeline.cli_watching import detecting_options, watching_options
from tal_run.pipeline.dry_run import dry_run_option, of_batch
from tal_run.pipeline.exits import DONE, SOME_FAILED, STOPPED, WrongUse, errors_as_wrong_use

if TYPE_CHECKING:
    from tal_run.pipeline.batch import Outcome
    from tal_run.pipeline.batch_display import BatchDisplay
    from tal_run.pipeline.batch_pool import Hand, Pool
    from tal_run.pipeline.batch_videos import FoundVideo
    from tal_run.pipeline.ray_engine import RayEngine
    from tal_run.pipeline.screen import Screen
    from tal_run.pipeline.workers import Limits, Worker

MODULE = "tal_run.pipeline.batch_worker"
BYTES = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
SHARE_OF_MEMORY = 0.8  # that all workers may take together


class Shard(click.ParamType[Any]):
    """``i/n``."""

    name = "i/n"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        """Its two numbers."""
        from tal_run.pipeline.batch_videos import parsed_shard

        try:
            return parsed_shard(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class Size(click.ParamType[Any]):
    """Bytes, or ``800M``, ``4G``."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The number of bytes."""
        match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?", str(value).strip(), re.IGNORECASE | re.ASCII)
        if not match or not 0 < float(match[1]) < float("inf"):
            self.fail(f"{value!r} is no amount of memory: give one such as 800M or 4G", param, ctx)
        return int(float(match[1]) * BYTES[match[2].lower()])


class RealTimes(click.FloatRange):
    """A number above 0; nan is none, though it is in every range."""

    def __init__(self) -> None:
        super().__init__(0, min_open=True)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number."""
        number = float(super().convert(value, param, ctx))
        if number != number:
            self.fail(f"{value!r} is no number above 0", param, ctx)
        return number


def limiting_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of every command that works in processes."""
    for option in reversed(
        [
            click.option(
                "--workers",
                type=click.IntRange(1, 1024),
                metavar="N",
                help="Processes that watch at the same time. [default: one a device; `batch` on cpu: one for two cores]",
            ),
            click.option(
                "--time-limit",
                type=RealTimes(),
                metavar="X",
                help="Seconds a video may take for each of its own, and five minutes. [default: 300]",
            ),
            click.option(
                "--memory-limit",
                type=Size(),
                metavar="SIZE",
                help="Memory a worker may take, such as 4G. [default: its share of 80 % of the machine's]",
            ),
            click.option("--shard", type=Shard(), metavar="i/n", help="Do the i-th of n shares of the videos, i from 1 to n."),
            click.option("--retry-failed", is_flag=True, help="Try again what failed."),
        ]
    ):
        command = option(command)
    return command


def engine_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say where a job's processes are."""
    for option in (
        click.option(
            "--ray-address",
            metavar="HOST:PORT",
            help="With --engine ray: the cluster. [default: RAY_ADDRESS, or the one that this machine belongs to]",
        ),
        click.option(
            "--engine",
            type=click.Choice(["local", "ray"]),
            default="local",
            show_default=True,
            help="Work in processes here, or on a Ray cluster (tal-run[ray]).",
        ),
    ):
        command = option(command)
    return command


@click.command()
@click.argument("folder", metavar="FOLDER", type=click.Path(path_type=Path))
@click.option("-o", "--output", "output_name", required=True, metavar="DIR", help="Write there.")
@detecting_options
@limiting_options
@engine_options
@dry_run_option
@watching_options
def batch(
    folder: Path,
    output_name: str,
    shard: tuple[int, int] | None,
    retry_failed: bool,
    dry_run: bool,
    engine: str,
    ray_address: str | None,
    **options: Any,
) -> None:
    """Find actions in all videos of a folder, thousands if need be.

    Each video in FOLDER and the folders below it ends as a file in DIR/results or, if nothing can be made of it, in
    DIR/failures; DIR/manifest.jsonl lists them all, DIR/detections.csv has all detections. Start it again, and it goes on where
    it was, whatever stopped it: what is done is kept, what has changed is done again. Several runs, on one machine or many that
    see the same DIR, share the work. Ctrl-C lets the videos in hand be finished; twice stops now. Exit status: 0 done, 1 some
    videos failed, 2 wrong use.
    """
    from tal_run.extractors.errors import TalRunError
    from tal_run.pipeline import outputs
    from tal_run.pipeline.batch import at_work
    from tal_run.pipeline.batch_display import BatchDisplay
    from tal_run.pipeline.batch_pool import Pool
    from tal_run.pipeline.batch_store import FAILURES, LOCKS, RESULTS, Store
    from tal_run.pipeline.batch_videos import share_of, videos_in_folder
    from tal_run.pipeline.screen import Screen

    screen = Screen(quiet=options["quiet"], verbose=options["verbose"])
    with errors_as_wrong_use(), ExitStack() as ending:
        if not output_name:
            raise WrongUse("-o is empty: give a folder to write to")
        check_engine(engine, ray_address, options["device"])
        folder, output = folder.absolute(), Path(output_name)
        videos, complaints = videos_in_folder(folder, leave_out=[output / name for name in (RESULTS, FAILURES, LOCKS)])
        if not videos:
            raise WrongUse(f"{folder} holds no video")
        for complaint in complaints:
            screen.error(complaint)
        mine = share_of(videos, *shard) if shard else videos
        if dry_run:
            sys.exit(of_batch(folder, output, mine, options, retry_failed, screen))
        ids = outputs.video_ids([video.path for video in videos])
        notes: Callable[[], Iterable[str]] = tuple
        workers: Sequence[Hand]
        if engine == "ray":
            cluster = ray_engine_of(MODULE, options, ray_address, mine)
            ending.callback(cluster.stop)
            workers, notes = ray_workers_of(cluster, options["workers"], screen), cluster.notes
        else:
            workers = workers_of(MODULE, options)
        for worker in workers:
            ending.callback(worker.close)
        made_by = introduced(workers[0], screen)
        store = Store(output)
        job = ending.enter_context(at_work(store, made_by, retry_failed=retry_failed))
        display = BatchDisplay(screen, mine, quiet=options["quiet"], is_chatty=options["verbose"])
        status, counts = DONE, None
        try:
            status = seen_to(Pool(workers, job.attend), mine, display, notes=notes)
            counts = job.conclude(videos, dict(zip([video.name for video in videos], ids, strict=True)))
        except TalRunError as error:  # it concerns all videos: the disk is full, say
            screen.error(str(error))
            status = SOME_FAILED
    screen.say(display.summary())
    if display.failed:
        screen.say(f"why: {output / FAILURES}")
    if counts is not None and len(mine) < len(videos):
        screen.say("all shares: " + ", ".join(f"{count} {state}" for state, count in sorted(counts.items())))
    sys.exit(SOME_FAILED if status == DONE and complaints else status)


def workers_of(module: str, options: Mapping[str, Any], *, stop_s: float = 0) -> list[Worker]:
    """The processes that options ask for, not yet begun; ``stop_s``: that each may take to give up what it is writing."""
    from tal_run.extractors.flow import usable_cores
    from tal_run.pipeline.workers import Worker

    devices = options["device"].split(",")
    count = options["workers"] or (len(devices) if devices != ["cpu"] else max(1, usable_cores() // 2))
    limits = limits_of(options, count)
    how = _how(options)
    threads = threads_of(count)
    return [
        Worker(module, {**how, "device": devices[number % len(devices)]}, limits=limits, threads=threads, stop_s=stop_s)
        for number in range(count)
    ]


def _how(options: Mapping[str, Any]) -> dict[str, Any]:
    """What a worker is told first."""
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in options.items()
        if name not in ("workers", "time_limit", "memory_limit")
    }


def check_engine(engine: str, ray_address: str | None, device: str) -> None:
    """Refuse what an engine cannot do. Raises WrongUse."""
    if engine != "ray":
        if ray_address is not None:
            raise WrongUse("--ray-address goes with --engine ray: add that")
        return
    if importlib.util.find_spec("ray") is None:
        raise WrongUse("--engine ray needs Ray, which is not installed: pip install 'tal-run[ray]'")
    match = re.fullmatch(r"auto|[^/\s]+:(\d{1,5})", "auto" if ray_address is None else ray_address, re.ASCII)
    if not match or not 0 < int(match[1] or 1) < 1 << 16:
        raise WrongUse(
            f"--ray-address {ray_address!r} is no HOST:PORT: give that of the cluster's head, such as 10.0.0.1:6379, and start "
            "tal-run on one of its nodes"
        )
    if device not in ("cpu", "cuda"):
        raise WrongUse(f"--device {device} with --engine ray: give cpu or cuda; which GPU a worker gets is Ray's choice")


def ray_engine_of(module: str, options: Mapping[str, Any], address: str | None, videos: Sequence[FoundVideo]) -> RayEngine:
    """The connection to a cluster, not yet made, for workers as options ask for them."""
    from tal_run.pipeline.batch_store import seen_of
    from tal_run.pipeline.ray_engine import RayEngine
    from tal_run.pipeline.workers import Limits

    how = _how(options)
    for name in ("checkpoint", "word_vectors"):
        if how.get(name):
            how[name] = str(Path(how[name]).absolute())  # nodes work in folders of their own
    limits = Limits(memory_bytes=options["memory_limit"])
    if options["time_limit"] is not None:
        limits = replace(limits, real_times=options["time_limit"])
    seen = ((video, seen_of(video.path)) for video in videos)
    probe = next(({"path": str(video.path), "seen": marks} for video, marks in seen if marks and marks["bytes"]), None)
    has_gpu = options["device"] != "cpu"
    cpus, workers = (1 if has_gpu else 2), options["workers"]
    return RayEngine(address, module, how, limits=limits, cpus=cpus, gpus=int(has_gpu), workers=workers, probe=probe)


def ray_workers_of(engine: RayEngine, count: int | None, screen: Screen) -> Sequence[Hand]:
    """Workers in a cluster: so many, or as many as there is room for. Those for which there is no room yet wait for it."""
    from tal_run.pipeline.ray_engine import RayWorker

    found = engine.connect()
    count = count or found["room"]
    screen.say(f"Ray: {found['nodes']} nodes with room for {found['room']} workers; {count} of them are asked for")
    return [RayWorker(engine, number) for number in range(count)]


def limits_of(options: Mapping[str, Any], count: int) -> Limits:
    """What one task of so many workers may cost."""
    from tal_run.pipeline.workers import Limits

    limits = Limits(memory_bytes=options["memory_limit"] or int(SHARE_OF_MEMORY * memory_of_machine() / count))
    return limits if options["time_limit"] is None else replace(limits, real_times=options["time_limit"])


def threads_of(count: int) -> int | None:
    """Threads that libraries may use in each of so many workers; None: as they like."""
    from tal_run.extractors.flow import usable_cores

    return max(1, usable_cores() // count) if count > 1 else None


def memory_of_machine() -> int:
    """Bytes that the machine has, or that a container is allowed."""
    amount = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for file in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with suppress(OSError, ValueError):
            amount = min(amount, int(Path(file).read_text(encoding="ascii")))
    return amount


def introduced(worker: Hand, screen: Screen) -> dict[str, Any]:
    """What decides which results come out, as a worker has it; what else it has to say is shown."""
    with screen.progress() as hook:
        greeting = worker.begin(hook=hook)
    for note in greeting["notes"]:
        screen.say(note)
    made_by: dict[str, Any] = greeting["made_by"]
    return made_by


def seen_to(
    pool: Pool[FoundVideo, Outcome],
    videos: Sequence[FoundVideo],
    display: BatchDisplay,
    *,
    notes: Callable[[], Iterable[str]] = tuple,
) -> int:
    """Have all videos seen to, and tell what there is to note meanwhile; the exit status."""
    from tal_run.pipeline.batch_pool import Done, Progress

    with _stops() as stops, display:
        for event in pool.run(videos):
            if isinstance(event, Progress):
                display.watching(event.unit, event.completed, event.total)
            elif isinstance(event, Done):
                display.done(event.unit, event.result)
            elif event is not None:
                display.error(f"a worker is done without: {event}")
            for note in notes():
                display.note(note)
            if stops.is_new():
                if stops.times == 1:
                    display.note("finishing the videos in hand (Ctrl-C again stops now)")
                    pool.finish()
                else:
                    pool.stop()
            display.tick()
    if stops.times:
        return STOPPED
    return SOME_FAILED if display.failed or display.left else DONE


class _Stops:
    """How often somebody asked to stop."""

    def __init__(self) -> None:
        self.times = self._told = 0

    def interrupt(self, *_: object) -> None:
        """Ctrl-C."""
        self.times += 1

    def terminate(self, *_: object) -> None:
        """A batch system's way to stop, which soon kills."""
        self.times += 2

    def is_new(self) -> bool:
        """Whether somebody did since this was asked last."""
        told, self._told = self._told, self.times
        return self._told > told


@contextmanager
def _stops() -> Iterator[_Stops]:
    """Count signals to stop instead of being stopped by them."""
    stops = _Stops()
    handlers = {signal.SIGINT: stops.interrupt, signal.SIGTERM: stops.terminate, signal.SIGHUP: stops.terminate}
    # what nohup, or a shell in the background, has put out of action stays so
    heard = {number: handler for number, handler in handlers.items() if signal.getsignal(number) is not signal.SIG_IGN}
    before = {number: signal.signal(number, handler) for number, handler in heard.items()}
    try:
        yield stops
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
