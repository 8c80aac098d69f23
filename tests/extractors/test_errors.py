"""An error's text is one printable line, whatever it quotes."""

from __future__ import annotations

import pytest

from tal_run.extractors.errors import TalRunError
from tal_run.extractors.video_errors import VideoError


def test_a_sentence_stays_as_it_is() -> None:
    assert str(VideoError("a.mp4 is empty (0 bytes), so the download failed; fetch it again")) == (
        "a.mp4 is empty (0 bytes), so the download failed; fetch it again"
    )


@pytest.mark.parametrize("name", ["a\x1b[31mb", "a\nb", "a\x00b", "a\rb", "a\u202eb", "a\udcffb"])
def test_what_commands_a_terminal_or_is_no_text_is_left_out(name: str) -> None:
    text = str(TalRunError(f"there is no file {name}: check the path"))
    assert text.isprintable()
    assert text.startswith("there is no file a")
    assert text.endswith("b: check the path")


def test_of_what_is_quoted_at_length_the_middle_is_left_out_and_the_cure_stays() -> None:
    text = str(TalRunError(f"the value {'x' * 100_000} is no number: give one"))
    assert len(text) <= 2000
    assert text.startswith("the value xxx")
    assert text.endswith("xxx is no number: give one")
