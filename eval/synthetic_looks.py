"""Two looks of made video, as ranges side by side: who is dressed how, how the camera is held, and what the picture suffers.

A look knows nothing of what people do in it: nothing here may depend on the action. ``stadium`` is filmed from a tripod, from
afar, in good light; ``street`` from the hand, from near, in whatever light there is, with more in the way. The ranges overlap,
so that neither look can be told from one number, but differ in every one, so that "trained on one, tested on the other"
measures something.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tal_run.eval.synthetic_figure import Body

Colour = tuple[int, int, int]  # RGB
Range = tuple[float, float]
Shares = tuple[tuple[str, float], ...]  # name, how often; sums to 1


@dataclass(frozen=True, kw_only=True)
class Clothes:
    """What one person wears, and their skin and hair.

    Attributes:
        sleeves: ``none``, ``short`` or ``long``.
        legs: ``briefs``, ``shorts``, ``skirt``, ``tights`` (to the ankle, close) or ``trousers`` (to the ankle, wide).
        pattern: ``plain``, ``band`` (across the chest), ``sides`` (stripes down the flanks) or ``bib`` (a start number).
        headwear: ``none``, ``cap``, ``hat`` or ``headband``.
        hair_style: ``bald``, ``short``, ``bob`` or ``tail``.
    """

    top: Colour
    trim: Colour
    bottom: Colour
    shoes: Colour
    skin: Colour
    hair: Colour
    sleeves: str
    legs: str
    pattern: str
    headwear: str
    hair_style: str


@dataclass(frozen=True, kw_only=True)
class Look:
    """The distribution of everything but the motion. Ranges are uniform unless said otherwise.

    Attributes:
        shot_s: how long a shot lasts before a cut; for who plans videos.
        bystanders: fewest and most other people in a shot; for who plans videos.
        figure_px: height of an upright lead in the picture.
        distance_m: from the camera to the leads; more of it flattens the perspective.
        depth_m: from the leads to what closes the scene behind them.
        lag_s: how far a following camera trails.
        zoom: size at the end of a zooming shot over that at its start.
        shake_px, roll_deg: standard deviations of an unsteady hand.
        sun: how dark shadows are on the ground, 0..1.
        ghost: share of the frame before that is still in this one (a slow shutter).
        noise: standard deviation of the sensor's noise, in grey levels.
        low_res: smallest and largest factor by which the picture was once smaller, where it was (``low_res_share``).
        crf: for the encoder, whole numbers.
    """

    name: str
    backdrops: Shares
    tops: tuple[Colour, ...]
    bottoms: tuple[Colour, ...]
    skins: Shares
    sleeves: Shares
    legs: Shares
    patterns: Shares
    headwear: Shares
    height_m: Range
    girth: Range
    shot_s: Range
    bystanders: tuple[int, int]
    figure_px: Range
    distance_m: Range
    depth_m: Range
    camera_height_m: Range
    camera_modes: Shares
    lag_s: Range
    zoom: Range
    shake_px: Range
    roll_deg: Range
    occluders: Shares
    weather: Shares
    brightness: Range
    contrast: Range
    gamma: Range
    cast: Range
    saturation: Range
    vignette: Range
    flicker: Range
    sun: Range
    blur_px: Range
    ghost: Range
    noise: Range
    low_res: Range
    low_res_share: float
    interlaced_share: float
    crf: tuple[int, int]


SKINS: dict[str, Colour] = {
    "pale": (240, 205, 180),
    "fair": (224, 178, 146),
    "olive": (198, 150, 112),
    "brown": (152, 104, 72),
    "dark": (106, 70, 48),
    "deep": (70, 46, 34),
}
HAIRS: tuple[Colour, ...] = (
    (32, 24, 20),
    (60, 40, 26),
    (96, 64, 38),
    (150, 112, 64),
    (204, 172, 112),
    (120, 50, 28),
    (150, 148, 146),
)
SHOES: tuple[Colour, ...] = (
    (240, 240, 240),
    (34, 34, 38),
    (220, 70, 40),
    (240, 220, 60),
    (60, 110, 200),
    (110, 80, 54),
    (90, 220, 120),
)

_STADIUM = Look(
    name="stadium",
    backdrops=(("stands", 0.3), ("field", 0.3), ("hall", 0.22), ("arena", 0.18)),
    tops=(
        (206, 32, 44), (20, 70, 168), (250, 250, 250), (246, 206, 30), (20, 136, 76), (240, 112, 26), (30, 30, 34),
        (86, 178, 226), (132, 40, 140), (226, 60, 130),
    ),
    bottoms=((24, 26, 34), (18, 52, 128), (240, 240, 242), (170, 26, 36), (16, 100, 60), (60, 64, 74)),
    skins=(("pale", 0.15), ("fair", 0.25), ("olive", 0.15), ("brown", 0.15), ("dark", 0.2), ("deep", 0.1)),
    sleeves=(("none", 0.6), ("short", 0.3), ("long", 0.1)),
    legs=(("briefs", 0.3), ("shorts", 0.35), ("skirt", 0.03), ("tights", 0.25), ("trousers", 0.07)),
    patterns=(("plain", 0.3), ("band", 0.2), ("sides", 0.2), ("bib", 0.3)),
    headwear=(("none", 0.84), ("cap", 0.06), ("hat", 0.0), ("headband", 0.1)),
    height_m=(1.6, 1.98),
    girth=(0.85, 1.15),
    shot_s=(8.0, 40.0),
    bystanders=(0, 3),
    figure_px=(80.0, 190.0),
    distance_m=(12.0, 32.0),
    depth_m=(8.0, 45.0),
    camera_height_m=(1.3, 5.0),
    camera_modes=(("follow", 0.5), ("static", 0.2), ("zoom", 0.25), ("drift", 0.05)),
    lag_s=(0.2, 0.6),
    zoom=(0.75, 1.3),
    shake_px=(0.0, 0.8),
    roll_deg=(0.0, 0.15),
    occluders=(("none", 0.74), ("post", 0.08), ("hurdle", 0.08), ("rope", 0.05), ("heads", 0.05)),
    weather=(("clear", 0.95), ("rain", 0.03), ("snow", 0.0), ("dust", 0.02)),
    brightness=(-18.0, 16.0),
    contrast=(0.85, 1.2),
    gamma=(0.85, 1.15),
    cast=(-0.05, 0.05),
    saturation=(0.8, 1.25),
    vignette=(0.0, 0.25),
    flicker=(0.0, 0.02),
    sun=(0.15, 0.6),
    blur_px=(0.0, 0.7),
    ghost=(0.0, 0.25),
    noise=(0.5, 5.0),
    low_res=(1.2, 1.6),
    low_res_share=0.12,
    interlaced_share=0.15,
    crf=(20, 28),
)  # fmt: skip

_STREET = Look(
    name="street",
    backdrops=(("facades", 0.22), ("brick", 0.14), ("park", 0.22), ("beach", 0.1), ("snow", 0.1), ("room", 0.22)),
    tops=(
        (60, 64, 72), (122, 126, 128), (40, 52, 84), (150, 60, 48), (86, 104, 70), (214, 202, 178), (30, 30, 32),
        (196, 160, 90), (110, 150, 170), (178, 120, 140), (236, 236, 230), (230, 120, 40),
    ),
    bottoms=((40, 54, 92), (70, 92, 134), (52, 50, 48), (116, 98, 74), (150, 140, 120), (28, 28, 30), (90, 96, 80)),
    skins=(("pale", 0.2), ("fair", 0.25), ("olive", 0.25), ("brown", 0.15), ("dark", 0.1), ("deep", 0.05)),
    sleeves=(("none", 0.1), ("short", 0.4), ("long", 0.5)),
    legs=(("briefs", 0.03), ("shorts", 0.25), ("skirt", 0.12), ("tights", 0.1), ("trousers", 0.5)),
    patterns=(("plain", 0.62), ("band", 0.2), ("sides", 0.16), ("bib", 0.02)),
    headwear=(("none", 0.64), ("cap", 0.2), ("hat", 0.12), ("headband", 0.04)),
    height_m=(1.45, 1.92),
    girth=(0.9, 1.4),
    shot_s=(4.0, 20.0),
    bystanders=(0, 4),
    figure_px=(64.0, 150.0),
    distance_m=(4.5, 13.0),
    depth_m=(3.0, 22.0),
    camera_height_m=(1.1, 2.2),
    camera_modes=(("follow", 0.45), ("static", 0.25), ("zoom", 0.12), ("drift", 0.18)),
    lag_s=(0.3, 0.9),
    zoom=(0.8, 1.25),
    shake_px=(0.6, 4.0),
    roll_deg=(0.1, 1.2),
    occluders=(("none", 0.5), ("post", 0.14), ("hedge", 0.12), ("bench", 0.08), ("fence", 0.08), ("heads", 0.08)),
    weather=(("clear", 0.82), ("rain", 0.09), ("snow", 0.07), ("dust", 0.02)),
    brightness=(-42.0, 26.0),
    contrast=(0.65, 1.15),
    gamma=(0.7, 1.35),
    cast=(-0.14, 0.14),
    saturation=(0.45, 1.1),
    vignette=(0.0, 0.5),
    flicker=(0.0, 0.06),
    sun=(0.05, 0.5),
    blur_px=(0.2, 1.2),
    ghost=(0.0, 0.32),
    noise=(3.0, 12.0),
    low_res=(1.3, 2.2),
    low_res_share=0.35,
    interlaced_share=0.05,
    crf=(24, 34),
)  # fmt: skip

LOOKS: dict[str, Look] = {"stadium": _STADIUM, "street": _STREET}


def pick(shares: Shares, rng: np.random.Generator) -> str:
    """One of the names, as often as its share says."""
    weights = np.array([share for _, share in shares])
    return shares[int(rng.choice(len(shares), p=weights / weights.sum()))][0]


def sample_clothes(look: Look, rng: np.random.Generator) -> Clothes:
    """Clothes, skin and hair as people have them in this look; every colour is moved a little, so that none comes twice."""

    def one_of(colours: tuple[Colour, ...], spread: float = 14.0) -> Colour:
        shifted = np.clip(np.array(colours[int(rng.integers(len(colours)))]) + rng.normal(0, spread, 3), 4, 252)
        return int(shifted[0]), int(shifted[1]), int(shifted[2])

    return Clothes(
        top=one_of(look.tops),
        trim=one_of(look.tops),
        bottom=one_of(look.bottoms),
        shoes=one_of(SHOES),
        skin=one_of((SKINS[pick(look.skins, rng)],), 6.0),
        hair=one_of(HAIRS, 6.0),
        sleeves=pick(look.sleeves, rng),
        legs=pick(look.legs, rng),
        pattern=pick(look.patterns, rng),
        headwear=pick(look.headwear, rng),
        hair_style=pick((("bald", 0.08), ("short", 0.5), ("bob", 0.2), ("tail", 0.22)), rng),
    )


def sample_body(look: Look, rng: np.random.Generator) -> Body:
    """A build as people have it in this look."""
    return Body(
        height_m=float(rng.uniform(*look.height_m)),
        leg_share=float(rng.uniform(0.93, 1.07)),
        arm_share=float(rng.uniform(0.94, 1.07)),
        girth=float(rng.uniform(*look.girth)),
    )
