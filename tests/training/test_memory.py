"""A large table is in memory once: read from its file into what the device computes with, on a CPU."""

import subprocess
import sys

import commands
import pytest

pytestmark = pytest.mark.slow

MB = 2**20
ITEMS, WIDTH = 52_000, 1_000  # 208 MB as float32

# Prints the most private memory, in bytes, that making the table and bringing it to the device took, and what stays.
PROGRAM = f"""
import sys, threading
from pathlib import Path
import jax, jax.numpy as jnp, numpy as np
from llmesr_jax.data.corpus import from_pairs
from llmesr_jax.semantic import tables

folder, name = Path(sys.argv[1]), sys.argv[2]
users = np.repeat(np.arange({ITEMS}) + 1, 3)
corpus = from_pairs("large", users, np.roll(users, 1), folder=folder)
jax.block_until_ready(jnp.ones(8) + 1)

def private():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) * 1024

before, most, done = private(), [0], threading.Event()
def watch():
    while not done.wait(0.002):
        most[0] = max(most[0], private())
watcher = threading.Thread(target=watch)
watcher.start()
found = tables.prepare(corpus, tables.SemanticConfig(), needs=frozenset({{name}}), pca_width=4).arrays
on_device = getattr(tables, "on_device", lambda t: {{k: jnp.asarray(v) for k, v in t.items()}})(found)
jax.block_until_ready(on_device)
done.set()
watcher.join()
assert on_device[name].shape[1] == {WIDTH} and on_device[name].dtype == np.float32
print(max(most[0], private()) - before, private() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("name, file", [("item_llm", "item_emb.npy"), ("user_llm", "user_emb.npy")])
def test_a_file_of_200_mb_takes_200_mb(tmp_path, name, file, dtype):
    """Not twice that: once padded on the host and once on the device."""
    make = (
        "import sys, numpy as np; "
        f"x = np.lib.format.open_memmap(sys.argv[1], 'w+', sys.argv[2], ({ITEMS}, {WIDTH})); x[:, 0] = 1; x[:, -1] = 2"
    )
    for each in {file, "item_emb.npy"}:
        subprocess.run([sys.executable, "-c", make, tmp_path / each, dtype], check=True)
    environment = commands.environment(tmp_path / "cache")
    command = [sys.executable, "-c", PROGRAM, tmp_path, name]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    most, stays = map(int, ran.stdout.split())
    table = ITEMS * WIDTH * 4
    assert table <= most < table + 60 * MB and stays < table + 60 * MB
