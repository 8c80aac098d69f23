"""The slow references with which the fast versions are compared."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

REFERENCES = Path(__file__).parents[1] / "reference"


def load(name: str) -> ModuleType:
    path = REFERENCES / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"reference_{name}", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def reference() -> ModuleType:
    """The protocols as loops."""
    return load("evaluation")


@pytest.fixture(scope="session")
def proposals_reference() -> ModuleType:
    """Average recall as loops."""
    return load("proposals")
