"""The protocols as loops, one rule a line, nothing in arrays and nothing fast: what each evaluator does, in its own order.

Truth is (video, label, start, end), Ambiguous (video, start, end), a detection (video, label, start, end, score).
"""

from __future__ import annotations

import math

Truth = tuple[str, str, float, float]
Ambiguous = tuple[str, float, float]
Found = tuple[str, str, float, float, float]


def tiou(a: tuple[float, float], b: tuple[float, float]) -> float:
    inner = min(a[1], b[1]) - max(a[0], b[0])
    if inner <= 0:
        return 0.0
    return inner / (max(a[1], b[1]) - min(a[0], b[0]))


def snippet(seconds: float) -> int:
    return round(seconds * 25 / 16)


def mean_ap(
    protocol: str, truth: list[Truth], ambiguous: list[Ambiguous], found: list[Found], threshold: float
) -> tuple[float, dict[str, float]]:
    """The mAP and the AP of each class that has an instance."""
    labels = sorted({label for _, label, _, _ in truth})
    aps = {}
    for label in labels:
        own_truth = [t for t in truth if t[1] == label]
        own_found = sorted((d for d in found if d[1] == label), key=lambda d: -d[4])  # stable
        if protocol in ("thumos14", "mexaction2"):
            flags = thumos(own_truth, ambiguous if protocol == "thumos14" else [], own_found, threshold)
            aps[label] = plain_ap(flags, len(own_truth))
        elif protocol == "activitynet":
            aps[label] = interpolated_ap(activitynet(own_truth, own_found, threshold), len(own_truth))
        else:
            own_truth = [(v, c, snippet(s), snippet(e)) for v, c, s, e in own_truth]
            rounded = [(v, c, snippet(s), snippet(e), score) for v, c, s, e, score in own_found]
            own_found = [d for d in rounded if d[3] > d[2] and not touches_rounded(d, ambiguous)]
            if protocol == "wsad":
                aps[label] = interpolated_ap(activitynet(own_truth, own_found, threshold), len(own_truth))
            else:
                aps[label] = plain_ap(wtalc(own_truth, own_found, threshold), len(own_truth))
    return sum(aps.values()) / len(aps), aps


def touches_rounded(d: Found, ambiguous: list[Ambiguous]) -> bool:
    frames = set(range(int(d[2]), int(d[3])))
    return any(v == d[0] and frames & set(range(snippet(s), snippet(e))) for v, s, e in ambiguous)


def thumos(truth: list[Truth], ambiguous: list[Ambiguous], found: list[Found], threshold: float) -> list[bool]:
    """Right or wrong, by falling score; wrong ones that touch an ambiguous stretch are not in the list."""
    right: set[int] = set()
    for t in truth:
        best, best_index = -1.0, None
        for index, d in enumerate(found):
            if d[0] == t[0] and index not in right and tiou(d[2:4], t[2:4]) > best:
                best, best_index = tiou(d[2:4], t[2:4]), index
        if best_index is not None and best > threshold:
            right.add(best_index)
    flags = []
    for index, d in enumerate(found):
        touching = any(v == d[0] and min(e, d[3]) - max(s, d[2]) > 0 for v, s, e in ambiguous)
        if index in right:
            flags.append(True)
        elif not touching:
            flags.append(False)
    return flags


def activitynet(truth: list[Truth], found: list[Found], threshold: float) -> list[bool]:
    taken: set[int] = set()
    flags = []
    for d in found:
        ranked = sorted(
            ((tiou(d[2:4], t[2:4]), index) for index, t in enumerate(truth) if t[0] == d[0]), reverse=True
        )  # of equals the one listed last
        for overlap, index in ranked:
            if overlap >= threshold and index not in taken:
                taken.add(index)
                flags.append(True)
                break
        else:
            flags.append(False)
    return flags


def wtalc(truth: list[Truth], found: list[Found], threshold: float) -> list[bool]:
    left = list(truth)
    flags = []
    for d in found:
        right = False
        for t in left:
            if t[0] != d[0]:
                continue
            a, b = set(range(int(t[2]), int(t[3]))), set(range(int(d[2]), int(d[3])))
            if len(a & b) / len(a | b) >= threshold:
                right = True
                left.remove(t)
                break
        flags.append(right)
    return flags


def plain_ap(flags: list[bool], positives: int) -> float:
    total, hits = 0.0, 0
    for rank, right in enumerate(flags, 1):
        if right:
            hits += 1
            total += hits / rank
    return total / positives


def interpolated_ap(flags: list[bool], positives: int) -> float:
    """The toolkit's way: pad precision and recall, make precision fall, sum the steps."""
    hits = [sum(flags[: rank + 1]) for rank in range(len(flags))]
    precision = [0.0, *(hit / (rank + 1) for rank, hit in enumerate(hits)), 0.0]
    recall = [0.0, *(hit / positives for hit in hits), 1.0]
    for index in range(len(precision) - 2, -1, -1):
        precision[index] = max(precision[index], precision[index + 1])
    return sum((recall[i + 1] - recall[i]) * precision[i + 1] for i in range(len(recall) - 1))


def frame_ap(truth: list[Truth], found: list[Found], label: str, fps: float, frames: int) -> float:
    """AP over the first ``frames`` frames of every video; frames of one score come together."""
    by_score: dict[float, list[bool]] = {}
    positives = 0
    for video in {t[0] for t in truth} | {d[0] for d in found}:
        for frame in range(frames):
            moment = frame / fps + 1e-9 / fps  # 4.16 + 2.56 is 6.720000000000001, and the frame at 6.72 lies outside
            true = any(v == video and c == label and s <= moment < e for v, c, s, e in truth)
            positives += true
            scores = [d[4] for d in found if d[0] == video and d[1] == label and d[2] <= moment < d[3]]
            if scores:
                by_score.setdefault(max(scores), []).append(true)
    total, seen, hits = 0.0, 0, 0
    for score in sorted(by_score, reverse=True):
        seen += len(by_score[score])
        hits += sum(by_score[score])
        total += sum(by_score[score]) * hits / seen
    return total / positives if positives else math.nan


def resampled(
    truth: list[Truth], ambiguous: list[Ambiguous], found: list[Found], drawn: dict[str, int]
) -> tuple[list[Truth], list[Ambiguous], list[Found]]:
    """The same data with each video as often as it was drawn; copies of a detection follow one another."""

    def copies(rows: list) -> list:  # type: ignore[type-arg]
        return [(f"{row[0]}#{number}", *row[1:]) for row in rows for number in range(drawn[row[0]])]

    return copies(truth), copies(ambiguous), copies(found)
