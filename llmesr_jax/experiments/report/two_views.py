"""FAERec's figure 5: the ID and the LLM view of the same items, and measures of their similarity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from sklearn.cluster import KMeans
from sklearn.neighbors import NearestNeighbors

from llmesr_jax.experiments.drawing import SQUARE, Entry, Panel, color, panel
from llmesr_jax.experiments.report.compare import SEED
from llmesr_jax.experiments.report.figures import Figure
from llmesr_jax.experiments.report.planes import Planes
from llmesr_jax.experiments.report.rows import Row, Section

NEIGHBOURS = 10
CLUSTERS = 6


class Alike(NamedTuple):
    """How similar the two views of one method are, over the same n items.

    Attributes:
      row: of the section.
      overlap: mean share of an item's nearest neighbours (cosine) in one view that are also its neighbours in the
        other.
      chance: that share for neighbours drawn at random.
      cka: linear centred kernel alignment, 0 to 1.
      llm: what the LLM view is, in words.
    """

    row: Row
    overlap: float
    chance: float
    cka: float
    llm: str


def overlap(a_nxE: np.ndarray, b_nxF: np.ndarray, count: int = NEIGHBOURS) -> float:
    """Mean over items of |N_a(i) and N_b(i)| / k: N(i) are the k nearest other items by cosine in either space.

    Args:
      a_nxE, b_nxF: float, vectors of the same items in the same order.
      count: k; at most n - 1.
    """
    count = min(count, len(a_nxE) - 1)
    near_a, near_b = (_neighbours(x, count) for x in (a_nxE, b_nxF))
    return float((near_a[:, :, None] == near_b[:, None, :]).any(axis=2).mean())


def _neighbours(x_nxE: np.ndarray, count: int) -> np.ndarray:
    """int (n, count): the nearest other items of each item; the item itself is left out, but not an equal vector."""
    return NearestNeighbors(n_neighbors=count, metric="cosine").fit(x_nxE).kneighbors(return_distance=False)


def linear_cka(a_nxE: np.ndarray, b_nxF: np.ndarray) -> float:
    """||B^T A||^2 / (||A^T A|| ||B^T B||), Frobenius, columns centred (Kornblith et al., ICML 2019, eq. 5).

    It does not change if either space is rotated or scaled. NaN if all vectors of one space are the same.

    Args:
      a_nxE, b_nxF: float, vectors of the same items in the same order.
    """
    a, b = (x.astype(np.float64) - x.mean(axis=0, dtype=np.float64) for x in (a_nxE, b_nxF))
    scale = np.linalg.norm(a.T @ a) * np.linalg.norm(b.T @ b)
    return float(np.linalg.norm(b.T @ a) ** 2 / scale) if scale else float("nan")


def alike(row: Row, views: Mapping[str, np.ndarray], llm: str) -> Alike:
    """The measures of one method; `views` has "ID" and "LLM", `llm` says what the LLM view is."""
    a, b = views["ID"], views["LLM"]
    chance = min(NEIGHBOURS, len(a) - 1) / (len(a) - 1)
    return Alike(row, overlap(a, b), chance, linear_cka(a, b), llm)


def draw(
    section: Section, made: Sequence[Alike], views: Mapping[str, Mapping[str, np.ndarray]], planes: Planes
) -> Figure | None:
    """Two panels per method, its ID view and its LLM view; None without methods.

    Args:
      section: of the rows.
      made: the measures, in the order of the panels.
      views: {title of a row: {"ID", "LLM": float (n, E)}} of the same n items.
      planes: makes the maps.
    """
    panels = []
    for k, one in enumerate(made):
        title = section.title(one.row)
        both = views[title]
        groups_n = _clusters(both["ID"])
        told = f"overlap {one.overlap:.2f} (chance {one.chance:.2f}), CKA {one.cka:.2f}"
        for name, vectors in both.items():
            panels.append(
                _panel(
                    f"{section.slug}-views-{k}-{name.lower()}",
                    f"{title}, {name} view",
                    told,
                    groups_n,
                    planes.of(vectors),
                )
            )
    if not panels:
        return None
    caption = (
        "The same items by t-SNE, once by their ID view and once by their LLM view. Colours are clusters of the ID "
        "view (k-means): if they stay together in the LLM view, the two spaces have the same neighbourhoods. The "
        f"axes of t-SNE have no unit. The table counts: of an item's {NEIGHBOURS} nearest neighbours (cosine) in one "
        "view, the share that is among them in the other view, and linear CKA, which is 1 for spaces that differ "
        "only by a rotation and a scale."
    )
    return Figure("views", "ID view and LLM view", caption, (), tuple(panels), {})


def _clusters(vectors_nxE: np.ndarray) -> np.ndarray:
    """int (n,): the cluster of each item, of `CLUSTERS`, by the direction of its vector."""
    lengths = np.linalg.norm(vectors_nxE, axis=1, keepdims=True)
    directions = vectors_nxE / np.where(lengths > 0, lengths, 1)
    count = min(CLUSTERS, len(directions))
    return KMeans(count, n_init=1, random_state=SEED % 2**32).fit_predict(directions.astype(np.float64))


def _panel(name: str, title: str, told: str, groups_n: np.ndarray, plane_nx2: np.ndarray) -> Panel:
    def on(axes, tips):
        for k in range(CLUSTERS):
            x, y = plane_nx2[groups_n == k].T
            axes.plot(x, y, "o", color=color(f"s{k + 1}"), markersize=3.4, markeredgewidth=0, alpha=0.85)
        axes.set(title=title, xticks=[], yticks=[], aspect="equal", xlim=(-1.04, 1.04), ylim=(-1.04, 1.04))
        axes.set_xlabel(told, fontsize=10)
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)

    legend = [Entry(f"cluster {k + 1} of the ID view", f"s{k + 1}") for k in range(CLUSTERS)]
    return panel(name, f"t-SNE, {title}; {told}", on, *SQUARE, legend=legend)
