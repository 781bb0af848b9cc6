"""What saving, restoring and reading a large table costs on the host, for the devices of one or several processes.

    python tests/mesh_memory.py FOLDER ROWS PROCESSES

saves a table of (1, ROWS, 64) float32, split by rows over PROCESSES processes of one CPU device each, then restores it in
as many new ones; then embeddings of (ROWS, 64) float32 are read from a file. For each it prints a line of JSON: megabytes of the table, and at most of a process above what it held
before, the largest of all processes. Where a process restores or reads, its part of the table is among these.
"""

from __future__ import annotations

import functools
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

WIDTH = 64


def one(folder: Path, rows: int, what: str, port: int, count: int, index: int) -> None:
    """A process; prints its megabytes."""
    import jax
    import numpy as np

    from llmesr_jax.models.axes import Axes, Table
    from llmesr_jax.semantic.mapped import MappedTable
    from llmesr_jax.semantic.tables import brought, with_padding_and_mask
    from llmesr_jax.training import mesh, processes
    from llmesr_jax.training.checkpoint import Checkpoints

    if count > 1:
        processes.initialize(f"localhost:{port}", count, index)
    axes = Axes((("table", "item"),), (("item_llm", Table("item")),), rows, 1)
    placement = mesh.placement(mesh.Shape(1, count), axes)
    like = {"table": jax.ShapeDtypeStruct((1, rows, WIDTH), np.float32)}
    if what == "save":
        target = like if placement is None else placement.shapes(like)
        # Random numbers would take more memory than the table, which would not be given back.
        make = lambda: {"table": jax.lax.broadcasted_iota(np.float32, target["table"].shape, 1)}  # noqa: E731
        shardings = None if placement is None else {"table": target["table"].sharding}
        tree = jax.block_until_ready(jax.jit(make, out_shardings=shardings)())
    before = held("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # forgets the peak
    if what == "read":
        file = np.load(folder / "item_emb.npy", mmap_mode="r")
        tables = {"item_llm": MappedTable(file, 1) if count > 1 else with_padding_and_mask(file)}
        jax.block_until_ready(brought(tables, placement and placement.tables))
        print(held("VmHWM") - before, flush=True)
        return
    with Checkpoints(folder) as checkpoints:
        if what == "save":
            checkpoints.save(1, tree, {}, like)
        else:
            place = None if placement is None else placement.shapes
            found = checkpoints.restore(lambda progress: like, place)[0]
            jax.block_until_ready(found if count > 1 else jax.device_put(found))
    print(held("VmHWM") - before, flush=True)


def held(what: str) -> int:
    """Megabytes of memory: "VmRSS" now, "VmHWM" at most; as Linux says."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(what)]
    return int(line.split()[1]) // 1024


def main(folder: str, rows: str, count: str) -> None:
    import numpy as np

    Path(folder).mkdir(parents=True)
    shape = (int(rows) - 2, WIDTH)  # without padding and mask token
    file = np.lib.format.open_memmap(Path(folder, "item_emb.npy"), "w+", np.float32, shape)
    file[:] = 1
    del file
    for what in ("save", "restore", "read"):
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            port = found.getsockname()[1]
        command = [sys.executable, __file__, folder, rows, what, str(port), count]
        start = functools.partial(
            subprocess.Popen, stdout=subprocess.PIPE, text=True, env={**os.environ, "XLA_FLAGS": ""}
        )
        children = [start([*command, str(index)]) for index in range(int(count))]
        found = [int(child.communicate()[0].split()[-1]) for child in children]
        table = int(rows) * WIDTH * 4 // 2**20
        print(json.dumps({"what": what, "processes": int(count), "table MB": table, "host MB": max(found)}), flush=True)


if __name__ == "__main__":
    if len(sys.argv) == 4:
        main(*sys.argv[1:])
    else:
        one(Path(sys.argv[1]).absolute(), int(sys.argv[2]), sys.argv[3], *map(int, sys.argv[4:]))
