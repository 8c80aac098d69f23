"""The slow references, and random cases on which the fast versions are compared with them."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

REFERENCES = Path(__file__).parents[1] / "reference"


@pytest.fixture(scope="session")
def reference() -> ModuleType:
    """``tests/reference/evaluation.py``."""
    path = REFERENCES / "evaluation.py"
    spec = importlib.util.spec_from_file_location("reference_evaluation", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
