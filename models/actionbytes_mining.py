"""Mining ActionBytes (CVPR 2020, Section 3.2): from trimmed clips to the pseudo-labels that a network learns next.

    latent features L of every clip -> fragments -> their means a_n [N, l] -> k-means -> a clip's labels: its clusters

    min over C of 1/N sum_n min over y_n of ||a_n - C y_n||^2          y_n picks one of K centroids

The paper's card is ``actionbytes.py``; the network that learns from this is in ``actionbytes_network.py``. K-means is OpenCV's:
k-means++ chooses where it begins, and a cluster that loses all its members is given the one that fits its own worst.

Open in the paper, with the options of ``ActionBytesHeadConfig``:

- *Ends.* A clip's first and last fragment are bounded by the clip's own ends (``include_ends``), as at test time: of a clip of
  ten seconds much would be lost otherwise, and all of one without any change.
- *Normalisation* of a_n: none, as the formula has it; ``normalize`` gives all of them length 1.
- *Fewer clusters* than asked for (``clusters``) are made where there would be less than ``least_per_cluster`` fragments for
  each on average: clusters of one fragment are shared by no two clips, and nothing can be learnt from those.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tal_run.models.actionbytes import boundaries

Fragments = Literal["actionbytes", "fixed"]

MOST_ROUNDS, SMALLEST_MOVE = 100, 1e-4  # k-means ends after so many rounds, or when no centroid moves further


def fragment_borders(
    latent: ArrayLike, *, fragments: Fragments = "actionbytes", percentile: float, fixed_snippets: int = 2, include_ends: bool
) -> NDArray[np.int64]:
    """Where a video's fragments begin, and where the last one ends: B.

    Args:
        latent: L [T, l].
        fragments: ``actionbytes``: by Eq. 1; ``fixed``: all equally long, which is what the paper compares them with.
        percentile: p of Eq. 1.
        fixed_snippets: length of the fixed ones.
        include_ends: count the video's ends as boundaries.

    Returns:
        Rising snippet indices in 0..T; neighbours bound a fragment.
    """
    length = len(np.asarray(latent))
    if fragments == "fixed":
        return np.append(np.arange(0, length, fixed_snippets), length)
    inner = boundaries(latent, percentile=percentile)
    return np.concatenate([[0], inner, [length]]) if include_ends else inner


def fragment_means(latent: ArrayLike, borders: ArrayLike) -> NDArray[np.float32]:
    """What each fragment looks like: a_n, the mean of L [T, l] between neighbouring borders, as [N, l]."""
    features, edges = np.asarray(latent, np.float64), np.asarray(borders, np.int64)
    if len(edges) < 2 or not len(features):
        return np.empty((0, features.shape[1]), np.float32)
    sums = np.add.reduceat(features, edges[:-1], axis=0)  # the last one reaches to the end, which may lie behind its border
    sums[-1] = features[edges[-2] : edges[-1]].sum(axis=0)
    return np.asarray(sums / np.diff(edges)[:, None], np.float32)


def clusters_of(points: ArrayLike, count: int, *, seed: int) -> NDArray[np.int64]:
    """K-means: which of ``count`` clusters each point [N, l] belongs to, as [N]; the same for the same seed.

    Args:
        points: N of them, at least ``count``.
        count: K, at least 1.
        seed: of k-means++.
    """
    import cv2

    data = np.ascontiguousarray(points, np.float32)
    cv2.setRNGSeed(seed)
    until = (cv2.TERM_CRITERIA_MAX_ITER + cv2.TERM_CRITERIA_EPS, MOST_ROUNDS, SMALLEST_MOVE)
    _, assigned, _ = cv2.kmeans(data, count, np.empty(0, np.int32), until, 1, cv2.KMEANS_PP_CENTERS)
    return np.asarray(assigned, np.int64).reshape(-1)


def pseudo_labels(
    fragments: Sequence[NDArray[np.float32]], *, clusters: int, least_per_cluster: int, normalize: bool, seed: int
) -> NDArray[np.bool_]:
    """A clip's labels are all clusters of its fragments.

    Args:
        fragments: for each of V clips, what its fragments look like [N_v, l].
        clusters: K.
        least_per_cluster: fewer clusters are made where there are less fragments for each.
        normalize: compare directions alone.
        seed: of k-means.

    Returns:
        [V, K]; clusters that were not made are no clip's.
    """
    labels = np.zeros((len(fragments), clusters), np.bool_)
    points = np.concatenate(fragments)  # [N, l]
    if not len(points):
        return labels
    if normalize:
        points = points / np.maximum(np.linalg.norm(points, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    count = max(1, min(clusters, len(points) // least_per_cluster))
    clip = np.repeat(np.arange(len(fragments)), [len(of_clip) for of_clip in fragments])
    labels[clip, clusters_of(points, count, seed=seed)] = True
    return labels
