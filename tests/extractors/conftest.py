from __future__ import annotations

import importlib.util
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
