"""Checkpoints on meshes of eight CPU devices: saved on one mesh, read on another, also if the newer is damaged.

    XLA_FLAGS=--xla_force_host_platform_device_count=8 python tests/mesh_checkpoints.py FOLDER

prints a line of JSON for each mesh that saves: for each mesh that reads, the step of the checkpoint that it finds sound, and
whether its arrays have the bits and places that they should have; the same after the newer of two is damaged; and whether
the checksum is that of arrays on the host.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import jax
import numpy as np

from launch import quiet
from llmesr_jax.models.axes import Axes
from llmesr_jax.models.placement import Placement
from llmesr_jax.training import checksums, mesh
from llmesr_jax.training.checkpoint import Checkpoints

MESHES = [(1, 1), (1, 2), (1, 8), (3, 2)]
# Of 9 rows of items the last of 8 devices has none; there are 3 lanes, which two of the meshes split.
AXES = Axes((("table/items", "item"), ("dense", "")), (), 9, 5)


def tree() -> dict:
    """A state, on the host."""
    rng = np.random.default_rng(1)
    params = {"table": {"items": rng.normal(size=(3, 9, 128)).astype(np.float32)}, "dense": np.ones((3, 9), np.float32)}
    moments = jax.tree.map(lambda x: x * 0.5, params)
    sums, nobody = np.array([1, np.nan, -0.0], np.float32), np.zeros((0, 2), np.float32)
    return {"state": {"params": params, "mu": moments}, "best": params, "sums": {"total": sums, "none": nobody}}


def placed(whole: dict, placement: Placement | None) -> tuple[dict, dict]:
    """The state as it is saved, and its shapes without rows of zeros."""
    if placement is None:
        return whole, whole
    return placement.settled(placement.lanes(whole)), whole


def read(folder: Path, placement: Placement | None) -> tuple[int, bool]:
    """The step of the newest intact checkpoint, read for a mesh, and whether it is what was saved."""
    with Checkpoints(folder, read_only=True) as checkpoints:
        place = None if placement is None else placement.shapes
        found, progress = checkpoints.restore(lambda progress: tree(), place)
    return progress["step"], same(found, placement)


def same(found: dict, placement: Placement | None) -> bool:
    """Whether arrays have the bits and places that they should have."""
    if placement is None:
        return checksums.checksum(found) == checksums.checksum(tree())
    pairs = zip(jax.tree.leaves(found), jax.tree.leaves(placement.shapes(tree())), strict=True)
    lies = all(x.sharding == target.sharding for x, target in pairs if x.size)
    zeros = not np.asarray(found["best"]["table"]["items"])[:, 9:].any()
    on_host = placement.host({name: found[name] for name in ("state", "best")})
    wanted = {name: tree()[name] for name in ("state", "best")}
    return lies and zeros and checksums.checksum(on_host) == checksums.checksum(wanted)


def main(folder: Path) -> None:
    quiet.hush()
    placements = {shape: mesh.placement(mesh.Shape(*shape), AXES) for shape in MESHES}
    for shape, placement in placements.items():
        of_mesh = folder / "x".join(map(str, shape))
        state, like = placed(tree(), placement)
        with Checkpoints(of_mesh) as checkpoints:
            for step in (1, 2):
                checkpoints.save(step, state, {"step": step}, like)
            checksum = checkpoints.newest()["checksum"]
        found = {",".join(map(str, other)): read(of_mesh, p) for other, p in placements.items()}
        largest = max((of_mesh / "2" / "tree").rglob("d/*"), key=lambda path: path.stat().st_size)  # of arrays
        content = bytearray(largest.read_bytes())
        content[len(content) // 2] ^= 1
        largest.write_bytes(content)
        found |= {"damaged " + ",".join(map(str, other)): read(of_mesh, p) for other, p in placements.items()}
        whole = checksums.checksum({**tree(), "sums": {"total": tree()["sums"]["total"]}})
        print(json.dumps({**found, "checksum": checksum == whole}), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute())
