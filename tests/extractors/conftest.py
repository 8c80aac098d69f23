from __future__ import annotations

import importlib.util
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def factory() -> ModuleType:
    """tests/video_factory.py: videos whose frames show their own index."""
    path = Path(__file__).parents[1] / "video_factory.py"
    spec = importlib.util.spec_from_file_location("video_factory", path)
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
