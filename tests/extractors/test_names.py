"""Names that may have been meant: found whatever is wrong with their spelling, and not invented."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tal_run.extractors.names import MOST_SHOWN, alike, choices, meant

NAMES = ("auto", "i3d", "i3d-rgb", "i3d-flow", "movinet-a0-stream", "slow_r50", "slowfast_r50", "starter")
WORDS = st.text(string.ascii_lowercase, min_size=5, max_size=12)


@pytest.mark.parametrize(
    ("written", "first"),
    [
        *[("I3D", "i3d"), ("i3d_rgb", "i3d-rgb"), ("Movinet A0 stream", "movinet-a0-stream")],  # spaces, capitals, strokes
        *[("movinet", "movinet-a0-stream"), ("slow", "slow_r50")],  # a beginning, the shortest name first
        *[("staretr", "starter"), ("i3r", "i3d"), ("slowfst_r50", "slowfast_r50")],  # letters
    ],
)
def test_what_is_meant_comes_first(written: str, first: str) -> None:
    assert alike(written, NAMES)[0] == first


@pytest.mark.parametrize("written", ["", "-", "xyz", "resnet", "☃"])
def test_nothing_is_invented(written: str) -> None:
    assert alike(written, NAMES) == []
    assert choices(written, NAMES) == f"choose one of {', '.join(NAMES)}"


@given(st.lists(WORDS, min_size=1, max_size=20, unique=True), st.data())
def test_a_name_with_one_letter_missing_is_found_among_others(names: list[str], data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(names))
    place = data.draw(st.integers(0, len(name) - 1))
    spoilt = name[:place] + name[place + 1 :]
    found = alike(spoilt, names, most=len(names))
    assert name in found or spoilt in names  # what is there as it is written needs no guess


def test_as_many_as_fit_a_sentence_are_listed() -> None:
    many = [f"x{number}y{number * 7}" for number in range(MOST_SHOWN + 1)]
    assert choices("qqqq", many).endswith(f", {many[MOST_SHOWN - 1]} … ({MOST_SHOWN + 1} in all)")
    assert choices("x30y21", many) == f"did you mean {' or '.join(map(repr, alike('x30y21', many)))}?"  # and no list
    assert meant("long jmp", ("LongJump", "HighJump")) == "did you mean 'LongJump'?"
