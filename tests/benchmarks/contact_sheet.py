"""Draw a contact sheet of made video: a row an action, in both looks: ``python tests/benchmarks/contact_sheet.py OUT.jpg``."""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from tal_run.eval.synthetic import LOOKS
from tal_run.eval.synthetic_plan import LABELS, clip_frames, plan_clip

SEED = 11
FRAMES = 5
WIDTH, HEIGHT = 128, 96


def row(label: str, index: int) -> NDArray[np.uint8]:
    """Pictures evenly over one clip of each look, side by side [H, W, 3]."""
    pictures = []
    for look in LOOKS:
        frames = list(clip_frames(plan_clip(look=look, seed=SEED, index=index, label=label)))
        chosen = np.linspace(0.08 * len(frames), 0.92 * len(frames), FRAMES).astype(int)
        pictures += [cv2.resize(frames[k], (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA) for k in chosen]
    joined = np.ascontiguousarray(np.concatenate(pictures, axis=1))
    for colour, thickness in (((0, 0, 0), 3), ((255, 255, 255), 1)):
        cv2.putText(joined, label, (5, 14), cv2.FONT_HERSHEY_SIMPLEX, 0.45, colour, thickness, cv2.LINE_AA)
    return joined


def main(out: Path) -> None:
    sheet = np.concatenate([row(label, index) for index, label in enumerate(LABELS)])
    out.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(out), sheet[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 80])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
