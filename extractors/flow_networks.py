"""The median of 3 x 3 and 5 x 5 windows as sorting networks: the same few exchanges for every pixel, so for many at once.

A network is a list of exchanges: (i, j) leaves the smaller of two numbers at wire i and the larger at wire j.

- ``SORT_NETWORKS[n]`` sorts n numbers: the columns of all windows, each once.
- ``MEDIAN_NETWORKS[n]`` takes an n x n window whose columns are sorted (wire = rank * n + column) and leaves the median at
  wire ``MIDDLE_WIRES[n]``. That of 25 was found by pruning: rows sorted, the thirteen numbers that can then still be the
  median merged (Batcher 1968), and every exchange dropped without which all 6^5 windows of zeros and ones still come out
  right. That proves it for all numbers (the zero-one principle; Knuth, TAOCP 3, 5.3.4).
"""

SORT_NETWORKS: dict[int, list[tuple[int, int]]] = {
    3: [(0, 1), (1, 2), (0, 1)],
    5: [(0, 3), (1, 4), (0, 2), (1, 3), (0, 1), (2, 4), (1, 2), (3, 4), (2, 3)],
}
MEDIAN_NETWORKS: dict[int, list[tuple[int, int]]] = {
    3: [(0, 1), (1, 2), (7, 8), (6, 7), (3, 4), (4, 5), (3, 4), (4, 6), (2, 4), (4, 6)],
    5: [
        *[(0, 3), (1, 4), (0, 2), (1, 3), (2, 4), (2, 3), (5, 8), (5, 7), (6, 8), (5, 6), (7, 9), (6, 7), (8, 9), (10, 13)],
        *[(11, 14), (10, 12), (11, 13), (10, 11), (12, 14), (13, 14), (15, 18), (16, 19), (15, 17), (16, 18), (15, 16)],
        *[(17, 19), (16, 17), (17, 18), (20, 23), (21, 24), (20, 22), (21, 23), (20, 21), (22, 24), (21, 22), (20, 7)],
        *[(12, 16), (8, 11), (17, 21), (15, 20), (3, 7), (12, 8), (16, 11), (4, 17), (3, 20), (16, 8), (3, 16), (20, 8)],
        *[(7, 11), (4, 13), (20, 12), (7, 16), (17, 13), (16, 8), (9, 17), (12, 4), (16, 9), (8, 17), (7, 16), (8, 4), (16, 8)],
    ],
}
MIDDLE_WIRES = {3: 4, 5: 8}
