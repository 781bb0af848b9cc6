"""What every test runs under: the CPU, no silent broadcasting or dtype mixing, repeatable property tests."""

import gc
import os
from pathlib import Path

import compiling

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Most of the suite's time is compiling small programs once; less optimised code says the same.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
os.environ.setdefault("XLA_FLAGS", compiling.flags())

import hypothesis
import jax
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")

hypothesis.settings.register_profile("repeatable", deadline=None, derandomize=True)
hypothesis.settings.load_profile("repeatable")

# A tracer's objects are many and short-lived; with Python's own thresholds, collecting takes a fifth of the suite's time.
gc.set_threshold(200_000, 50, 50)

_PROJECT = Path(__file__).resolve().parents[1]


def pytest_collection_finish():
    gc.freeze()  # modules and tests stay until the end


@pytest.fixture(scope="module", autouse=True)
def _forget_compiled_programs():
    """A module's programs are of no use to the next; kept, they use up the memory mappings a process may have."""
    yield
    jax.clear_caches()


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data and golden files (`LLMESR_SHARED`, default `../shared`); skips where it is absent."""
    folder = Path(os.environ.get("LLMESR_SHARED", _PROJECT.parent / "shared"))
    if not folder.is_dir():
        pytest.skip(f"{folder} is absent; LLMESR_SHARED can name another place for the real data")
    return folder
