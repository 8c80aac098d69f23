"""An option's choices that say which of them may have been meant. Nothing heavy is imported."""

from __future__ import annotations

from typing import Any

import click


class Choice(click.Choice[str]):
    """One of a few words; what is spelt like one of them is asked after."""

    def get_invalid_choice_message(self, value: Any, ctx: click.Context | None) -> str:
        """What is wrong, what may have been meant, and what there is."""
        from tal_run.extractors.names import choices

        return f"{value!r} is not there: {choices(str(value), self.choices)}."
