"""Made videos, and the published networks with the weights and the outputs that the reference gives."""

from __future__ import annotations

import functools
import importlib.util
import json
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
import pytest

REFERENCE = Path(__file__).parents[3] / "shared" / "reference"


@pytest.fixture(scope="session")
def factory() -> ModuleType:
    """tests/video_factory.py: videos whose frames show their own index."""
    return _loaded(Path(__file__).parents[1] / "video_factory.py")


class PublishedReference:
    """What the implementations behind the public checkpoints give for weights and clips made by formula.

    ``kind`` is one of i3d_rgb, i3d_flow, c3d, p3d199_rgb, p3d199_flow.
    """

    SIDES: ClassVar[dict[str, int]] = {"i3d_rgb": 224, "i3d_flow": 224, "c3d": 112, "p3d199_rgb": 160, "p3d199_flow": 160}

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._formula = _loaded(folder / "deterministic.py")
        self.shapes: dict[str, dict[str, list[int]]] = json.loads((folder / "state_dict_shapes.json").read_text())

    def outputs(self, kind: str) -> dict[str, np.ndarray]:
        with np.load(self._folder / f"{kind}.npz") as file:
            return dict(file)

    def checkpoint(self, kind: str) -> dict[str, Any]:
        """A state dictionary with every published key."""
        import torch

        return {key: torch.from_numpy(self._formula.fill(key, shape, "public")) for key, shape in self.shapes[kind].items()}

    def clips(self, kind: str) -> Any:
        """The reference's two clips, [2, C, 16, S, S]."""
        import torch

        shape = (2, 2 if kind.endswith("flow") else 3, 16, self.SIDES[kind], self.SIDES[kind])
        return torch.from_numpy(self._formula.uniform(f"public/input/{kind}", shape))

    @functools.cache  # noqa: B019 - one object lives as long as the session, and networks take a second to fill
    def network(self, kind: str) -> Any:
        """Our network with that checkpoint, in evaluation mode; shared, so not to be changed."""
        from tal_run.extractors.c3d import C3D
        from tal_run.extractors.i3d import InceptionI3D
        from tal_run.extractors.p3d import P3D199

        makers: dict[str, Callable[[], Any]] = {
            "i3d_rgb": InceptionI3D,
            "i3d_flow": lambda: InceptionI3D(in_channels=2),
            "c3d": C3D,
            "p3d199_rgb": P3D199,
            "p3d199_flow": lambda: P3D199(in_channels=2),
        }
        network = makers[kind]()
        network.load_published(self.checkpoint(kind))
        return network.eval()


@pytest.fixture(scope="session")
def reference() -> PublishedReference:
    if not REFERENCE.is_dir():
        pytest.skip("the published implementations' outputs (../shared/reference) are not on this machine")
    return PublishedReference(REFERENCE)


def _loaded(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def little_memory() -> Iterator[None]:
    """The test must not take much memory, however much a file promises."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < 32 << 20
    finally:
        tracemalloc.stop()
