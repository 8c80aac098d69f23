"""What the starter, which has seen nothing but made video, finds in real clips: ``starter_on_real.py --clips CLIPS``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from compose import CLIPS

from tal_run.pipeline import DetectConfig, Detector

# real clips that show one of its actions, or something much like it
ALIKE = {
    "torchvision/hmdb51_Turnk_r_Pippi_Michel_cartwheel_f_cm_np2_le_med_6.avi": "cartwheel",
    "torchvision/RATRACE_wave_f_nm_np1_fr_goo_37.avi": "waving",
    "c3d_keras/v_Punch_g03_c01.avi": "punching",
    "crossfit/power_clean_262.mp4": "clean and jerk",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=Path, required=True)
    folder = parser.parse_args().clips
    detector = Detector(DetectConfig(backbone="starter"))
    for clip in (clip for split in CLIPS.values() for clip in split):
        features = detector.watch(folder / clip.path)
        probabilities = features.probabilities().max(axis=0)
        best = ", ".join(f"{features.labels[k]} {probabilities[k]:.2f}" for k in (-probabilities).argsort()[:3])
        found = ", ".join(sorted({f"{d.label} {d.score:.2f}" for d in detector.find(features)})) or "nothing"
        print(f"{clip.label:30s} ({ALIKE.get(clip.path, 'none of its actions'):19s}) highest {best:60s} found {found}")


if __name__ == "__main__":
    sys.exit(main())
