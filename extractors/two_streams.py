"""Pictures and their motion, side by side: each frame with the optical flow to the next one, as a video streams through.

    decoder process ──frames──▶ thread: grey, TV-L1, crop ──chunks──▶ network
                                          (``ahead``: a queue of a few chunks between them)

Each stage works while the others do, and waits when its queue is full, so what is held does not grow with the video. All of
them use all cores, and none is left idle, as long as waiting threads sleep: torch's spin unless OMP_WAIT_POLICY=PASSIVE is set
before it is loaded, as the command line does (a fifth faster on two cores).
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from tal_run.extractors.feature_record import FlowRecipe
from tal_run.extractors.flow import AUTO, BOUND, FlowStream, TVL1Params, best_backend, from_uint8, to_uint8
from tal_run.extractors.hooks import Hook, ignore_progress
from tal_run.extractors.recipes import grey

Frames = NDArray[np.uint8]
Flow = NDArray[np.float32]
Pixels = TypeVar("Pixels", Frames, Flow)
Item = TypeVar("Item")

CHUNKS_AHEAD = 2
FULL_S = 0.2  # how often a stage whose queue is full looks whether anybody still wants what it makes


@dataclass(frozen=True, kw_only=True)
class FlowConfig:
    """How optical flow is computed.

    Attributes:
        backend: one of ``flow.BACKENDS``, or ``auto``.
        params: TV-L1's.
        jpeg: round it to 8 bits, as flow was that features were made of by way of stored pictures.
    """

    backend: str = AUTO
    params: TVL1Params = field(default_factory=TVL1Params)
    jpeg: bool = False

    def recipe(self, device: str) -> FlowRecipe:
        """What is to be remembered of it: the backend that the device leads to, and all parameters.

        Raises:
            FlowError: there is no such backend, or not on this machine.
        """
        parameters = {name.rstrip("_"): value for name, value in asdict(self.params).items()}
        backend = best_backend(self.backend, params=self.params, device=device)
        return FlowRecipe(backend=backend, parameters={**parameters, **({"jpeg": True} if self.jpeg else {})})

    def stream(self, device: str, *, hook: Hook = ignore_progress) -> FlowStream:
        """The beginning of a video's flow.

        Raises:
            FlowError: there is no such backend, or not on this machine.
        """
        return FlowStream(backend=self.backend, params=self.params, device=device, hook=hook)


def with_flow(
    chunks: Iterable[Frames], stream: FlowStream, *, crop: tuple[int, int] | None = None, jpeg: bool = False
) -> Iterator[tuple[Frames, Flow]]:
    """Frames with the flow from each to the next one; the last one has the flow of the one before it.

    Args:
        chunks: RGB, uint8 [n, H, W, 3], n ≥ 1, of one size.
        stream: computes the flow, on whole frames.
        crop: height and width of the middle of frames and flow that is wanted; None: all.
        jpeg: round the flow to 8 bits.

    Yields:
        Frames uint8 [m, h, w, 3] and flow float32 [m, h, w, 2] in pixels, (x, y); a chunk's last frame comes with the next
        chunk. A video of a single frame has no motion.
    """
    last: Frames | None = None
    last_flow: Flow | None = None
    for chunk in chunks:
        flow = stream.push(grey(chunk))
        wanted = from_uint8(to_uint8(flow)) * np.float32(BOUND) if jpeg else flow
        wanted = _cropped(wanted, crop)
        frames = _cropped(chunk, crop)
        known = frames if last is None else np.concatenate([last, frames])
        # a copy: a view would keep the whole chunk
        last = known[-1:].copy()
        if len(wanted):
            last_flow = wanted[-1:].copy()
            yield known[:-1], wanted
    if last is not None:
        yield last, np.zeros((*last.shape[:3], 2), np.float32) if last_flow is None else last_flow


def _cropped(pixels: Pixels, crop: tuple[int, int] | None) -> Pixels:
    """The middle of frames [n, H, W, C], in memory of its own."""
    if crop is None:
        return pixels
    top, left = ((whole - part) // 2 for whole, part in zip(pixels.shape[1:3], crop, strict=True))
    return np.ascontiguousarray(pixels[:, top : top + crop[0], left : left + crop[1]])


@contextmanager
def ahead(
    items: Iterator[Item], *, most: int = CHUNKS_AHEAD, stop: Callable[[], None] = lambda: None
) -> Generator[Iterator[Item]]:
    """Let a thread of its own fetch items before they are asked for.

    Args:
        items: what is fetched; what it raises is raised where the item is asked for.
        most: items that may wait.
        stop: called on leaving; ends what the thread may be waiting for.

    Yields:
        The items. On leaving, the thread stops after the item in hand, and is waited for.
    """
    waiting: queue.Queue[tuple[bool, Item | BaseException | None]] = queue.Queue(most)
    is_over = threading.Event()

    def hand_over(is_item: bool, value: Item | BaseException | None) -> None:
        while not is_over.is_set():
            try:
                return waiting.put((is_item, value), timeout=FULL_S)
            except queue.Full:
                continue

    def fetch() -> None:
        try:
            for item in items:
                hand_over(True, item)
                if is_over.is_set():
                    return
        except BaseException as error:  # noqa: BLE001 - it is raised in the other thread
            hand_over(False, error)
        else:
            hand_over(False, None)

    def received() -> Iterator[Item]:
        while True:
            is_item, value = waiting.get()
            if is_item:
                yield value  # type: ignore[misc]  # an item
            elif value is None:
                return
            else:
                raise value  # type: ignore[misc]  # an exception

    thread = threading.Thread(target=fetch, name="ahead", daemon=True)
    thread.start()
    try:
        yield received()
    finally:
        is_over.set()
        stop()
        thread.join()
