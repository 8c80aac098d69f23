"""What every format needs: one video with what was found in it, its times as milliseconds and frames, its names as text.

A frame has the number of the frames before it: frame k is on screen from k / rate. A segment covers the frames from
``round(start · rate)`` to the one before ``round(end · rate)``, and one at least.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from tal_run.extractors.errors import TalRunError

if TYPE_CHECKING:
    from tal_run.models import Detection

BREAKS = re.compile(r"[\t\n\v\f\r\x1c\x1d\x1e\x85\u2028\u2029]")


class FormatError(TalRunError):
    """Detections that a format cannot hold."""


@dataclass(frozen=True, kw_only=True)
class FoundVideo:
    """One video for a file.

    Attributes:
        name: what it is called.
        detections: what was found, in any order.
        path: its file, if that is known.
        file: the name of its file; empty: not known.
        duration_s: its length; None: not known.
        rate: frames a second; None: not known.
        size: width and height in pixels, as displayed; None: not known.
        rate_varies: whether ``rate`` is but an average.
    """

    name: str
    detections: Sequence[Detection]
    path: Path | None = None
    file: str = ""
    duration_s: float | None = None
    rate: Fraction | None = None
    size: tuple[int, int] | None = None
    rate_varies: bool = False

    @property
    def file_name(self) -> str:
        """The name of its file, or what it is called."""
        return writable_text((self.path.name if self.path else "") or self.file or self.name)

    @property
    def in_time(self) -> list[Detection]:
        """What was found, by time; of what begins together, the best first."""
        return sorted(self.detections, key=lambda found: (found.start_s, -found.score, found.end_s, found.label))

    def frames_of(self, found: Detection) -> tuple[int, int]:
        """The first frame of a segment and the one behind its last."""
        rate = self.known_rate
        first = round(Fraction(found.start_s) * rate)
        return first, max(first + 1, round(Fraction(found.end_s) * rate))

    @property
    def known_rate(self) -> Fraction:
        """Frames a second.

        Raises:
            FormatError: it is not known.
        """
        if self.rate is None:
            raise FormatError(
                f"this format counts frames, and how many a second {printable_name(self.name)} has is not known: "
                "give the video (--video PATH), or say how many (--fps 30000/1001)"
            )
        return self.rate


def printable_name(name: str) -> str:
    """A name for a message."""
    from tal_run.extractors.wire import printable

    return printable(name, limit=100)


def milliseconds(found: Detection) -> tuple[int, int]:
    """From when to when; one at least."""
    start = round(found.start_s * 1000)
    return start, max(start + 1, round(found.end_s * 1000))


def writable_text(name: str) -> str:
    """A name that can be written as UTF-8: bytes that are none in it become ``\\udcff`` and the like."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def one_line(text: str) -> str:
    """Text on one line: a space for line breaks and the white about them; what a terminal obeys is spelled out, ``\\x1b``."""
    return writable_text(_spelled(re.sub(r"\s+", lambda white: " " if BREAKS.search(white[0]) else white[0], text))).strip()


def lines_of(text: str) -> list[str]:
    """Its lines that are not blank; what a terminal obeys is spelled out."""
    return [line for part in text.splitlines() if (line := one_line(part))]


def xml_text(text: str) -> str:
    """Text that XML 1.0 can hold; of what it cannot, such as ``\\x00``, the spelling. Lines end in ``\\n``."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return "".join(character if _is_xml(ord(character)) else _spelling(character) for character in writable_text(text))


def _spelled(text: str) -> str:
    return "".join(
        _spelling(character) if ord(character) < 32 or 127 <= ord(character) < 160 else character for character in text
    )


def _spelling(character: str) -> str:
    return f"\\x{ord(character):02x}" if ord(character) < 256 else f"\\u{ord(character):04x}"


def _is_xml(code: int) -> bool:
    """Whether XML 1.0 has this character (its production 2); those that most editors refuse left out."""
    return code in (9, 10, 13) or 32 <= code <= 126 or 160 <= code <= 0xD7FF or 0xE000 <= code <= 0xFFFD or code > 0xFFFF


def title_of(found: Detection) -> str:
    """A label with its score, for people."""
    return f"{found.label} ({found.score:.2f})"
