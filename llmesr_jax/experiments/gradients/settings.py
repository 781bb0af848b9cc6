"""The settings of a gradient study."""

from __future__ import annotations

import dataclasses

from llmesr_jax.core.knobs import knob


@dataclasses.dataclass(frozen=True)
class Options:
    """The measurements, and their sizes."""

    steps: int = knob(32, "training batches on which terms are compared, with dropout, in training order", least=1)
    users: int = knob(1024, "users measured one by one, without dropout, rounded up to whole batches", least=2)
    eigenvalues: int = knob(1, "leading eigenvalues of the Hessian of the loss and of each term; 0: none", least=0)
    hessian_batches: int = knob(2, "batches of the mean loss for the curvature", least=1)
    spectrum: int = knob(0, "random probes of the density of the Hessian's eigenvalues; 0: none, usually 4", least=0)
    order: int = knob(32, "products with the Hessian per probe of the spectrum", least=1)
    between: str = knob(
        "",
        "folder of another run of the same structure: measure the loss on the line from this run's model to the other; "
        "the same folder: the line to the next seed",
    )
    surface: str = knob("none", "directions of the loss's surface", choices=("none", "random", "eigenvectors"))
    influence: str = knob(
        "none",
        "influence of each user on the ranking loss of tail and head, in influence.csv: tracin, summed over the "
        "measured epochs, or gauss_newton, on the rows of item tables at the last of them",
        choices=("none", "tracin", "gauss_newton"),
    )
    damping: float = knob(0.01, "damping of the influence's Gauss-Newton matrix", least=1e-12)
    grid: int = knob(15, "points of the surface along each direction, and of the line", least=2)
