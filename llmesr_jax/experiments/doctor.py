"""The state of this installation and its problems: versions, devices, memory, caches, as text for an issue.

The text has no secrets: of environment variables only those in `_SHOWN` are shown, and the home folder is written as ~.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import itertools
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from llmesr_jax.core.errors import InputError

_PROJECT = "llmesr-jax"
_SHOWN = ("JAX_", "XLA_", "LLMESR_", "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "XDG_CACHE_HOME")
_SLOWS = {  # JAX's variables that slow training down, and what each does
    "JAX_DISABLE_JIT": "nothing is compiled, so training is hundreds of times slower",
    "JAX_ENABLE_X64": "numbers are 64 bits wide, so training is slower and its numbers differ",
    "JAX_DEBUG_NANS": "every step is checked for NaN, so training is slower",
    "JAX_DISABLE_MOST_OPTIMIZATIONS": "compiled code is slow",
}
_LEAST_DISK, _LEAST_MEMORY = 2 * 2**30, 2 * 2**30


class Fact(NamedTuple):
    """A line of the report: a name and its value."""

    what: str
    value: str


class Problem(NamedTuple):
    """A line on what is wrong, and what to do."""

    line: str


@dataclasses.dataclass(frozen=True)
class Examined:
    """What `examine` found; its text is what `launch.doctor` prints.

    Attributes:
      facts: (name, value), in the order of printing.
      problems: one line each: what is wrong, and what to do.
    """

    facts: tuple[tuple[str, str], ...]
    problems: tuple[str, ...]

    def __str__(self) -> str:
        width = max(len(name) for name, _ in self.facts)
        lines = [f"{name:<{width}}  {value}" for name, value in self.facts]
        found = [f"- {problem}" for problem in self.problems] or ["none found"]
        return "\n".join([*lines, "", "Problems", *found])


def examine(version: str, compiled: Path, most_compiled: int, environ: Mapping[str, str] | None = None) -> Examined:
    """Checks the installation. It takes a few seconds, mostly to start JAX and to time one matrix product.

    Args:
      version: of this library.
      compiled: the folder of compiled code.
      most_compiled: maximum number of bytes that are kept there.
      environ: environment variables; None: those of the process.
    """
    environ = os.environ if environ is None else environ
    parts = (
        _software(version),
        _hardware(),
        _devices(environ),
        _folders(compiled, most_compiled),
        _environment(environ),
    )
    found = list(itertools.chain.from_iterable(parts))
    facts = tuple((one.what, one.value) for one in found if isinstance(one, Fact))
    return Examined(facts, tuple(one.line for one in found if isinstance(one, Problem)))


def clear(compiled: Path) -> int:
    """Deletes compiled code, which is made again when needed. Returns the number of bytes deleted.

    Raises:
      InputError: the folder cannot be deleted.
    """
    size = _size(compiled)
    try:
        if compiled.is_dir():
            shutil.rmtree(compiled)
    except OSError as error:
        raise InputError(f"{compiled}: cannot be deleted ({error.strerror}); delete it yourself") from error
    return size


_Found = Iterator[Fact | Problem]


def _software(own: str) -> _Found:
    try:
        wanted = importlib.metadata.requires(_PROJECT) or []
        where = "installed"
    except importlib.metadata.PackageNotFoundError:
        wanted, where = [], "not installed by pip, run from a folder"
    yield Fact(_PROJECT, f"{own} ({where})")
    yield Fact("Python", f"{platform.python_version()} ({platform.python_implementation()})")
    if sys.version_info < (3, 11):
        yield Problem(f"Python is {platform.python_version()}; expected 3.11 or newer")
    required, optional = [], []
    for one in wanted:
        name, least, extra = _requirement(one)
        version = _version_of(name)
        if version is None and not extra:
            yield Problem(f"{name} is not installed; run: pip install '{name}>={least}'")
        elif version is not None:
            (optional if extra else required).append(f"{name} {version}")
            if least and _numbers(version) < _numbers(least):
                yield Problem(f"{name} is {version}; expected {least} or newer; run: pip install -U {name}")
    if not wanted:
        required = [f"{name} {_version_of(name)}" for name in ("jax", "flax", "optax", "orbax-checkpoint", "numpy")]
    extras = [one for one in optional if one not in required]  # several extras may need the same package
    for name, found in (("packages", required), ("extras", list(dict.fromkeys(extras)))):
        for start in range(0, len(found), 4):
            yield Fact(name if not start else "", ", ".join(found[start : start + 4]))
    jax, jaxlib = _version_of("jax"), _version_of("jaxlib")
    if jax and jaxlib and jax.split(".")[:2] != jaxlib.split(".")[:2]:
        yield Problem(f"jax is {jax} and jaxlib {jaxlib}; expected the same version; run: pip install -U jax jaxlib")


def _hardware() -> _Found:
    yield Fact("system", f"{platform.system()} {platform.release()}, {platform.machine()}, {_cpus()} processors")
    total, limit = _memory(), _memory_limit()
    most = min(x for x in (total, limit) if x) if total or limit else None
    if most:
        held = ", limit of the container" if limit and limit == most != total else ""
        yield Fact("memory", f"{_gib(most)}{held}")
        if most < _LEAST_MEMORY:
            yield Problem(f"memory is {_gib(most)}; real data sets need {_gib(_LEAST_MEMORY)} or more")


def _devices(environ: Mapping[str, str]) -> _Found:
    import jax

    cards = _cards()
    for card in cards:
        yield Fact("graphics card", card)
    try:
        devices = jax.devices()
    except Exception as error:  # JAX's plug-ins for devices may raise anything
        first = next(iter(str(error).splitlines()), type(error).__name__)
        yield Problem(f"JAX finds no device: {first}; compare with https://docs.jax.dev/en/latest/installation.html")
        return
    kind = devices[0].platform
    yield Fact("JAX computes on", f"{len(devices)} x {kind} ({devices[0].device_kind})")
    if cards and kind == "cpu":
        named = environ.get("JAX_PLATFORMS") or environ.get("JAX_PLATFORM_NAME")
        cure = "unset JAX_PLATFORMS" if named else "run: pip install -e '.[cuda13]' (or cuda12)"
        yield Problem(f"there is a graphics card, but JAX does not use it; {cure}")
    yield Fact("matrix product", f"{_speed() / 1e9:,.0f} GFLOP/s (2048 x 2048, float32)")


def _folders(compiled: Path, most_compiled: int) -> _Found:
    size = _size(compiled)
    yield Fact("traced and compiled programs", f"{_home(compiled)}: {_gib(size)} of at most {_gib(most_compiled)}")
    tables = [path for path in compiled.parent.glob("*") if path.is_dir() and path != compiled]
    if tables:
        yield Fact("computed tables", f"{_home(compiled.parent)}: {_gib(sum(map(_size, tables)))}")
    there = next(path for path in (compiled, *compiled.absolute().parents) if path.exists())
    if not os.access(there, os.W_OK):
        yield Problem(
            f"{there} cannot be written, so compiled code is not cached; set XDG_CACHE_HOME to another folder"
        )
    for place in dict.fromkeys((Path.cwd(), there)):
        free = shutil.disk_usage(place).free
        yield Fact("free disk", f"{_gib(free)} at {_home(place)}")
        if free < _LEAST_DISK:
            yield Problem(f"{_home(place)}: only {_gib(free)} are free; checkpoints and tables need more")


def _environment(environ: Mapping[str, str]) -> _Found:
    for name in sorted(environ):
        if name.startswith(_SHOWN):
            yield Fact(name, _home(environ[name]))
            if name in _SLOWS and environ[name].lower() not in ("", "0", "false", "off"):
                yield Problem(f"{name}={environ[name]}: {_SLOWS[name]}; unset it")


def _requirement(text: str) -> tuple[str, str, bool]:
    """Name, lower bound, and whether it belongs to an extra, of a text such as "jax>=0.10; extra == 'cuda12'"."""
    plain, _, marker = text.partition(";")
    name = re.match(r"[\w.-]+", plain)
    least = re.search(r">=\s*([\w.]+)", plain)
    return name[0] if name else plain, least[1] if least else "", "extra" in marker


def _version_of(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version.split("+")[0])[:3])


def _cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _memory() -> int | None:
    with contextlib.suppress(AttributeError, ValueError, OSError):  # systems without these names
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return None


def _memory_limit() -> int | None:
    with contextlib.suppress(OSError, ValueError):
        return int(Path("/sys/fs/cgroup/memory.max").read_text())
    return None


def _cards() -> list[str]:
    """NVIDIA's graphics cards, as nvidia-smi lists them."""
    if shutil.which("nvidia-smi") is None:
        return []
    command = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
        if done.returncode == 0:
            return [line.strip() for line in done.stdout.splitlines() if line.strip()]
    return []


def _speed() -> float:
    """Floating-point operations per second of a matrix product on the first device; the median of five."""
    import jax
    import jax.numpy as jnp

    n = 2048
    x = jnp.ones((n, n), jnp.float32)
    product = jax.jit(lambda x: x @ x)
    product(x).block_until_ready()
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        product(x).block_until_ready()
        seconds.append(time.perf_counter() - start)
    return 2 * n**3 / statistics.median(seconds)


def _size(folder: Path) -> int:
    """Bytes of all files below a folder."""
    size = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):  # another command may delete the file
            if path.is_file() and not path.is_symlink():
                size += path.stat().st_size
    return size


def _gib(size: float) -> str:
    return f"{size / 2**30:.2f} GiB" if size < 10 * 2**30 else f"{size / 2**30:,.0f} GiB"


def _home(path: Path | str) -> str:
    home = str(Path.home())
    return str(path).replace(home, "~") if home != "/" else str(path)
