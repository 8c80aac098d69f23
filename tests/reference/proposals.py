"""Average recall over the number of proposals, video by video and budget by budget, in ActivityNet's order of steps."""

from __future__ import annotations

Segment = tuple[str, float, float]  # video, start, end
Scored = tuple[str, float, float, float]


def tiou(a: tuple[float, float], b: tuple[float, float]) -> float:
    inner = min(a[1], b[1]) - max(a[0], b[0])
    return 0.0 if inner <= 0 else inner / (max(a[1], b[1]) - min(a[0], b[0]))


def average_recall(
    truth: list[Segment], proposals: list[Scored], thresholds: list[float], most: float = 100.0
) -> tuple[float, list[float], list[float], list[float]]:
    """AUC, the average numbers of proposals, AR at each, and recall at each threshold with all that are left."""
    videos = sorted({t[0] for t in truth})
    ratio = most * len(videos) / max(len(proposals), 1)
    left = {}
    for video in videos:
        own = sorted((p for p in proposals if p[0] == video), key=lambda p: -p[3])
        left[video] = own[: min(int(len(own) * ratio), len(own))]
    total = sum(map(len, left.values()))
    if not total:
        return 0.0, [0.0] * 100, [0.0] * 100, [0.0] * len(thresholds)
    numbers, curves = [], {threshold: [] for threshold in thresholds}  # type: ignore[var-annotated]
    for step in range(1, 101):
        share = step / 100 * (most * len(videos) / total)
        numbers.append(share * total / len(videos))
        for threshold in thresholds:
            covered = 0
            for video in videos:
                budget = min(int(len(left[video]) * share), len(left[video]))
                for t in truth:
                    if t[0] == video:
                        covered += any(tiou(t[1:], p[1:3]) >= threshold for p in left[video][:budget])
            curves[threshold].append(covered / len(truth))
    average = [sum(curve[step] for curve in curves.values()) / len(thresholds) for step in range(100)]
    area = sum((numbers[i + 1] - numbers[i]) * (average[i] + average[i + 1]) / 2 for i in range(99))
    return area / numbers[-1], numbers, average, [curves[threshold][-1] for threshold in thresholds]
