"""The alignment losses, written as loops."""

import math

import numpy as np


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def info_nce_by_loops(x, y, occurrences, temperature):
    """Rows are occurrences; a row's softmax leaves out the other occurrences of its item."""
    scores = unit(x) @ unit(y).T / temperature
    total = 0.0
    for n, i in enumerate(occurrences):
        others = [math.exp(scores[i, j]) for m, j in enumerate(occurrences) if m == n or j != i]
        total += math.log(sum(others)) - scores[i, i]
    return total / max(len(occurrences), 1)


def twins_by_loops(x, y, redundancy):
    """x, y: one row an occurrence."""
    if len(x) < 2:
        return 0.0
    z = [(a - a.mean(0)) / (a.std(0, ddof=1) + 1e-5) for a in (x, y)]
    c = z[0].T @ z[1] / len(x)
    pairs = [(i, j) for i in range(x.shape[1]) for j in range(x.shape[1])]
    return sum((1 - c[i, j]) ** 2 if i == j else redundancy * c[i, j] ** 2 for i, j in pairs)
