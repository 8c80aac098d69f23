"""Evaluation by named protocol: data sets' annotations, protocols, proposals, certainty, diagnosis.

``evaluate`` and what it returns are here; the rest is imported from its own module.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tal_run.eval.evaluation import EvaluationResult as EvaluationResult
    from tal_run.eval.evaluation import evaluate as evaluate

__all__ = ["EvaluationResult", "evaluate"]


def __getattr__(name: str) -> Any:
    """Import numerics when they are asked for: the list of data sets can do without."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from tal_run.eval import evaluation

    return getattr(evaluation, name)
