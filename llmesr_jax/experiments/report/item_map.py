"""Figure 5 of LLM-ESR: item vectors by t-SNE, coloured by popularity, and how often neighbours are equally popular."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from sklearn.neighbors import NearestNeighbors
from tqdm import tqdm

from llmesr_jax.data.corpus import Corpus
from llmesr_jax.experiments.drawing import SQUARE, Entry, Panel, color, panel
from llmesr_jax.experiments.report.compare import SEED
from llmesr_jax.experiments.report.figures import Figure
from llmesr_jax.experiments.report.planes import Planes
from llmesr_jax.experiments.report.rows import Section

BOUNDS = {"0": (0, 0), "1-4": (1, 4), "5-9": (5, 9), "10-29": (10, 29), "30+": (30, None)}  # those of figure 5, and 0
NEIGHBOURS = 10
_LEGEND = tuple(Entry(f"{label} training interactions", f"p{k}") for k, label in enumerate(BOUNDS))


def popularity_groups(counts_n: np.ndarray) -> np.ndarray:
    """int (n,): the index in `BOUNDS` of each item's training count."""
    return np.searchsorted([low for low, _ in BOUNDS.values()], counts_n, side="right") - 1


def shared_popularity(vectors_nxE: np.ndarray, groups_n: np.ndarray) -> tuple[float, float]:
    """The mean share of an item's nearest neighbours (Euclidean) in its popularity group; and that for random items."""
    count = min(NEIGHBOURS, len(vectors_nxE) - 1)
    near = NearestNeighbors(n_neighbors=count + 1).fit(vectors_nxE).kneighbors(return_distance=False)
    same = groups_n[near[:, :count]] == groups_n[:, None]
    sizes = np.bincount(groups_n)
    chance = float((sizes * (sizes - 1)).sum() / (len(groups_n) * (len(groups_n) - 1)))
    return float(same.mean()), chance


def choose(corpus: Corpus, count: int) -> np.ndarray:
    """int (n,): rows of items, ascending, drawn at random by a fixed seed."""
    return np.sort(np.random.default_rng(SEED).permutation(corpus.num_items)[:count])


def draw(section: Section, sources: Mapping[str, np.ndarray], counts_n: np.ndarray, planes: Planes) -> Figure | None:
    """A panel for each source; None if there are none, or fewer than 4 items.

    Args:
      section: for names of files.
      sources: {label: float (n, E)}, vectors of the same n items.
      counts_n: the items' training interactions.
      planes: makes the maps.
    """
    if len(counts_n) < 4 or not sources:
        return None
    groups_n = popularity_groups(counts_n)
    panels = [
        _panel(f"{section.slug}-items-{i}", name, vectors.astype(np.float64), groups_n, planes.of(vectors))
        for i, (name, vectors) in enumerate(
            tqdm(sources.items(), "maps of item vectors", unit="map", leave=False, disable=None, dynamic_ncols=True)
        )
    ]
    caption = (
        f"{len(counts_n):,} items drawn at random, by t-SNE, coloured by popularity. The picture shows neighbourhoods; "
        "distances between clusters mean little, and the axes have no unit. Below each: of an item's "
        f"{min(NEIGHBOURS, len(counts_n) - 1)} nearest neighbours among these items, the share that is as popular as the "
        "item, and the share to expect by chance. The closer the two, the less the space is ordered by popularity; a share "
        "below chance means that neighbours tend to differ in popularity."
    )
    return Figure("items", "Item vectors", caption, (), tuple(panels), {one.label: one.color for one in _LEGEND})


def _panel(name: str, label: str, vectors_nxE: np.ndarray, groups_n: np.ndarray, plane_nx2: np.ndarray) -> Panel:
    share, chance = shared_popularity(vectors_nxE, groups_n)

    def on(axes, tips):
        for k in range(len(BOUNDS)):
            x, y = plane_nx2[groups_n == k].T
            axes.plot(x, y, "o", color=color(f"p{k}"), markersize=3.6, markeredgewidth=0, alpha=0.85)
        axes.set(title=label, xticks=[], yticks=[], aspect="equal", xlim=(-1.04, 1.04), ylim=(-1.04, 1.04))
        axes.set_xlabel(f"equally popular {share:.2f} (chance {chance:.2f})", fontsize=10)
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)

    told = f"t-SNE of {label} item vectors by popularity; shared {share:.2f}, chance {chance:.2f}"
    return panel(name, told, on, *SQUARE, legend=_LEGEND)
