"""Which frame is on screen when: exact arithmetic between a file's ticks and the samples k / fps.

A frame is on screen from its timestamp until the next one's, so the sample at t shows the last frame whose timestamp is
≤ t. Both sides are integers times fractions; nothing here rounds, except that the files themselves do::

    true time     0 ......... 33.37 ms ........ 66.73 ms          29.97 fps
    in Matroska   0 ......... 33 ............. 67                 timestamps are whole milliseconds
    sample        ............................. 66.73             must show the third frame, though 66.73 < 67

A timestamp may thus lie up to half a tick after the time it stands for, and as much again where t = 0 is itself a
rounded timestamp. `FrameTimes.slack_ticks` is that allowance. Where a tick is as long as a frame (AVI: one tick, one
frame) the times are exact and the slack is nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

Ticks = NDArray[np.int64]

# A tick this much shorter than a frame means that times were rounded to it.
FINE_TICKS_PER_FRAME = 4


def as_rate(fps: float | Fraction) -> Fraction:
    """`fps` as the fraction that was meant: 29.97002997002997 is 30000/1001.

    Raises:
        ValueError: not a finite number above zero.
    """
    try:
        exact = Fraction(fps)
    except (OverflowError, ValueError) as error:
        raise ValueError(f"fps must be a finite number above 0, not {fps}") from error
    if exact <= 0:
        raise ValueError(f"fps must be above 0, not {fps}")
    simple = exact.limit_denominator(1001)
    return simple if abs(simple - exact) <= exact * Fraction(1, 10**12) else exact


@dataclass(frozen=True)
class FrameTimes:
    """The true times of the frames that are displayed, in display order.

    `ticks` [N], N ≥ 1, ascending, in units of `tick_s`; the last frame ends at `end_tick`; `zero_s` on the file's own
    clock is t = 0.
    """

    ticks: Ticks
    end_tick: int
    tick_s: Fraction
    zero_s: Fraction

    @property
    def interval_ticks(self) -> int:
        """Median distance of two frames; of a single frame, how long it stays."""
        if len(self.ticks) < 2:
            return self.end_tick - int(self.ticks[0])
        return int(np.median(np.diff(self.ticks)))

    @property
    def slack_ticks(self) -> Fraction:
        """How much later than the true time a timestamp may be, because the file rounds (see above)."""
        if self.interval_ticks < FINE_TICKS_PER_FRAME:
            return Fraction(0)
        return Fraction(1, 2) if self.zero_s == 0 else Fraction(1)

    @property
    def duration_s(self) -> Fraction:
        """From t = 0 to the end of the last frame."""
        return self.end_tick * self.tick_s - self.zero_s

    @property
    def is_variable_rate(self) -> bool:
        """Whether the distances differ by more than rounding to a tick explains."""
        distances = np.diff(self.ticks)
        rounding = 1 if self.interval_ticks >= FINE_TICKS_PER_FRAME else 0
        return bool(len(distances) and distances.max() - distances.min() > rounding)

    def first_samples(self, rate: Fraction) -> Ticks:
        """Int64 [N + 1]: the samples `first[i] ≤ k < first[i + 1]` show frame i; the last entry counts the samples.

        The first frame also holds before its own time, and one sample exists even of a video shorter than 1 / rate.
        """
        bounds = np.append(self.ticks, np.int64(self.end_tick))
        # k shows frame i when  k / rate ≥ (tick[i] − slack) · tick_s − zero_s,  that is  k ≥ (tick[i] − offset) · scale
        offset = self.slack_ticks + self.zero_s / self.tick_s
        scale = self.tick_s * rate
        multiplier = offset.denominator * scale.numerator
        subtrahend = offset.numerator * scale.numerator
        divisor = offset.denominator * scale.denominator
        largest = max(abs(int(bounds[0])), abs(int(bounds[-1]))) * multiplier + abs(subtrahend)
        if largest >= 2**62 or divisor >= 2**62:
            exact = [-((subtrahend - int(tick) * multiplier) // divisor) for tick in bounds]
            first = np.array([min(max(k, 0), 2**62) for k in exact], np.int64)
        else:
            first = -((subtrahend - bounds * multiplier) // divisor)
        first[0] = 0
        first[-1] = max(first[-1], 1)
        return np.clip(first, 0, first[-1])
