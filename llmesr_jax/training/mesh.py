"""The devices of a run: `--mesh=lane:3,data:4`, see `models.placement`."""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from llmesr_jax.core.errors import InputError
from llmesr_jax.models.axes import Axes
from llmesr_jax.models.placement import Placement
from llmesr_jax.models.recommender import Recommender
from llmesr_jax.models.types import DATA_AXIS, LANE_AXIS
from llmesr_jax.training import config as config_lib

AUTO = "auto"
_EXPECTED = "expected data:N, lane:N, both with a comma between them, or auto"


class Shape(NamedTuple):
    """The number of devices along each axis."""

    lane: int = 1
    data: int = 1


def parse(text: str) -> Shape | None:
    """The mesh that the setting `train.mesh` describes; None for `auto`, one device for "".

    >>> parse("lane:3,data:4")
    Shape(lane=3, data=4)

    Raises:
      InputError: the text describes no mesh.
    """
    if text.strip() == AUTO:
        return None
    found: dict[str, int] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        axis, _, count = part.partition(":")
        if axis not in Shape._fields or axis in found or not count.isdigit() or int(count) < 1:
            raise InputError(f"--mesh={text}: {part!r} is not a part of a mesh; {_EXPECTED}")
        found[axis] = int(count)
    return Shape(**found)


def shape_of(config: ConfigDict, devices: int) -> Shape:
    """The mesh of a run on so many devices.

    `auto`: the greatest common divisor of seeds and devices along `lane`, and as many of the others along `data` as
    divide a batch.

    Raises:
      InputError: there are fewer devices, or they do not divide a batch.
    """
    settings, batch_size = config_lib.section(config, "train"), config_lib.section(config, "data").batch_size
    found = parse(settings.mesh)
    if found is None:
        lane = math.gcd(len(config_lib.seed_list(config)), devices)
        return Shape(lane, max(d for d in range(1, devices // lane + 1) if batch_size % d == 0))
    check_there_are(found, settings.mesh, devices)
    if batch_size % found.data:
        raise InputError(
            f"--mesh={settings.mesh}: data.batch_size={batch_size} users cannot be divided among {found.data} devices; "
            f"expected a batch size that {found.data} divides, or another mesh"
        )
    return found


def check_there_are(shape: Shape, mesh: str, devices: int) -> None:
    """Raises InputError if a mesh, written as `mesh`, needs more devices than there are."""
    if shape.lane * shape.data > devices:
        raise InputError(
            f"--mesh={mesh}: needs {shape.lane * shape.data} devices, but there "
            f"{'is' if devices == 1 else 'are'} {devices} ({jax.default_backend()}); set a smaller mesh, or --mesh=auto"
        )


def splits_rows(config: ConfigDict, devices: int) -> bool:
    """Whether a run on so many devices splits tables by rows; False if its mesh needs more devices."""
    found = parse(config_lib.section(config, "train").mesh)
    if found is not None and found.lane * found.data > devices:
        return False
    return shape_of(config, devices).data > 1


def check(config: ConfigDict, shape: Shape, recommender: Recommender) -> None:
    """Raises InputError that names a setting or method which cannot be split over the devices of a mesh."""
    if jax.process_count() > 1 and shape.lane * shape.data < jax.device_count():
        raise InputError(
            f"--mesh={config.train.mesh}: the {jax.process_count()} processes have {jax.device_count()} devices; "
            "expected a mesh of all of them, or --mesh=auto"
        )
    mesh, settings = f"--mesh={config.train.mesh}", config_lib.section(config, "train")
    if settings.watch_gradients and (shape.data > 1 or jax.process_count() > 1):
        raise InputError(
            f"{mesh}: train.watch_gradients is not split over devices; expected 0, or one process and a mesh with data:1"
        )
    if settings.interactions == "streamed" and shape != Shape():
        raise InputError(
            f"{mesh}: train.interactions=streamed works with one device only; expected auto or resident, or a mesh "
            "of data:1 alone"
        )
    if shape.data == 1:
        return
    if config_lib.section(config, "data").layout == "packed":
        raise InputError(
            f"{mesh}: data.layout=packed is not split over devices; expected data.layout=auto, or a mesh with data:1"
        )
    method = recommender.make_backbone.method
    if config_lib.section(config, "loss").all_items:
        raise InputError(
            f"{mesh}: loss.ranking={config.loss.ranking} scores every item at each step, which is not split over "
            "devices; expected loss.ranking=sampled_softmax, or a mesh with data:1"
        )
    if recommender.extra is not None and not getattr(recommender.plugin, "ON_A_MESH", False):
        raise InputError(
            f"{mesh}: method {method!r} adds to batches (`extra`), and its file does not set `ON_A_MESH = True`, which "
            "declares that it refers to rows of students by their places in `Sequences.order_R`; expected that line in "
            "its file, or a mesh with data:1"
        )


def placement(shape: Shape, axes: Axes) -> Placement | None:
    """The placement of arrays on the first devices; None for a single device, which needs none."""
    count = shape.lane * shape.data
    if count == 1:
        return None
    return Placement(Mesh(np.array(jax.devices()[:count]).reshape(shape), (LANE_AXIS, DATA_AXIS)), axes)


def filled(count: int, lanes: int) -> np.ndarray:
    """int (n,): the lanes 0, 1, ..., filled up with lane 0 to a multiple of the mesh's lanes."""
    return np.pad(np.arange(count), (0, -count % lanes))
