"""Runs an encoder in many processes or machines by Ray Data (`pip install 'llmesr-jax[ray]'`).

Each actor loads the encoder. The vectors return to the process that started the run, which stores them as if it had
encoded the texts itself. So an interrupted run continues, and no text is embedded twice.
"""

from __future__ import annotations

import itertools
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Generator, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from llmesr_jax.core.errors import InputError
from llmesr_jax.semantic import encoders
from llmesr_jax.semantic.encoders import Answer, Text, TextEncoder

_PART = 1024  # texts in a file, which one actor embeds
_SHORTENED = "ray-shortened"


class Actors(NamedTuple):
    """The number of processes that load the encoder, and the share or number of GPUs that each takes."""

    count: int
    gpus: float = 0.0


def distributed(encoder: TextEncoder, name: str, config: Any, actors: Actors) -> TextEncoder:
    """The encoder, which then runs in actors of a Ray cluster: that of `RAY_ADDRESS`, else one on this machine.

    Args:
      encoder: as it was loaded here.
      name, config: by which it was loaded, and by which the actors load it.
      actors: their number and GPUs.
    Raises:
      InputError: Ray is not installed.
    """
    _ray()

    def encode(pending: Iterable[Text], folder: Path, width: int | None) -> Generator[Answer, None, None]:
        texts = folder / "ray-texts"
        shutil.rmtree(texts, ignore_errors=True)
        try:
            yield from _answers(_write(pending, texts), folder, dict(name=name, config=config, width=width), actors)
        except encoders.Stop:
            pass
        finally:
            shutil.rmtree(texts, ignore_errors=True)

    return encoder._replace(encode=encode, shortened=lambda folder: encoder.shortened(folder) | _shortened(folder))


def _ray() -> Any:
    try:
        import ray.data
    except ImportError as error:
        raise InputError(
            f"--ray: {error.name or error} is not installed; run pip install 'llmesr-jax[ray]', or run without --ray"
        ) from error
    return ray


def _write(pending: Iterable[Text], folder: Path) -> list[Path]:
    """Writes the texts as Parquet files, and returns the files."""
    import polars as pl

    folder.mkdir(parents=True)
    pending, written = iter(pending), []
    while some := list(itertools.islice(pending, _PART)):
        frame = pl.DataFrame(
            {"key": [t.key for t in some], "text": [t.text for t in some], "tokens": [t.tokens for t in some]}
        )
        written.append((folder / f"{len(written):06d}.parquet").resolve())
        frame.write_parquet(written[-1])
    return written


def _answers(
    parts: Sequence[Path], folder: Path, made_by: dict[str, Any], actors: Actors
) -> Generator[Answer, None, None]:
    """Runs the files of texts through the actors.

    Ray gets only the files' names, each in a block, and the actors read the files. Ray's own reading would join small
    files into few blocks, which occupy few actors, and would wait forever for a CPU if the actors have all CPUs (Ray's
    issue 44687).
    """
    if not parts:
        return
    actors = actors._replace(count=min(actors.count, len(parts)))
    ray = _connected(actors)
    ray.data.DataContext.get_current().enable_progress_bars = False
    names = [{"path": str(path)} for path in parts]
    rows = ray.data.from_items(names, override_num_blocks=len(names)).map_batches(
        Actor,
        fn_constructor_kwargs=made_by,
        batch_size=1,
        batch_format="numpy",
        compute=ray.data.ActorPoolStrategy(size=actors.count),
        num_gpus=actors.gpus or None,
    )
    try:
        for batch in rows.iter_batches(batch_size=None, batch_format="numpy"):
            yield _answer(batch, folder)
    except ray.exceptions.RayError as error:
        reason = str(error).strip().splitlines()[-1][:200]
        raise InputError(f"--ray: an actor failed ({reason}); run the same command again to continue") from error


def _connected(actors: Actors) -> Any:
    """Ray, connected to a cluster. If a cluster of `RAY_ADDRESS` is too small for the actors, a note is printed.

    Raises:
      InputError: this machine has too few GPUs.
    """
    ray, cluster = _ray(), os.environ.get("RAY_ADDRESS")
    wanted = {"CPU": actors.count, "GPU": actors.count * actors.gpus}
    if not ray.is_initialized():
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        # To Ray, the CPUs of a machine are only a number; if it were less than that of actors, Ray would wait forever.
        here = {"address": "local", "include_dashboard": False, "num_cpus": max(actors.count, os.cpu_count() or 1)}
        ray.init(log_to_driver=False, logging_level="ERROR", **({} if cluster else here))
    known = ray.cluster_resources()
    for what, count in wanted.items():
        if known.get(what, 0) >= count:
            continue
        lacking = f"{actors.count} actors take {count:g} {what}s, but there are {known.get(what, 0):g}"
        if not cluster:
            raise InputError(f"--ray={actors.count}: {lacking}; set --ray or --ray_gpus to less")
        print(
            f"note: --ray={actors.count}: {lacking} in {cluster}; waiting until it has more",
            file=sys.stderr,
            flush=True,
        )
    return ray


def _answer(batch: dict[str, np.ndarray], folder: Path) -> Answer:
    """The answer in a batch of `Actor`; also records the texts that were shortened for a server."""
    with (folder / _SHORTENED).open("a") as file:
        file.writelines(f"{key.hex()}\n" for key in batch["key"][batch["shortened"].astype(bool)])
    came = [vector for vector in batch["vector"] if len(vector)]
    keys = [bytes(key) for key, vector in zip(batch["key"], batch["vector"]) if len(vector)]
    vectors = np.frombuffer(b"".join(came), np.float32).reshape(len(came), -1) if came else encoders.NOTHING.vectors
    failed = {bytes(key): str(reason) for key, reason in zip(batch["key"], batch["failed"]) if reason}
    return Answer(keys, vectors, failed)


def _shortened(folder: Path) -> set[str]:
    try:
        return set((folder / _SHORTENED).read_text().split())
    except FileNotFoundError:
        return set()


class Actor:
    """An encoder in a process of Ray."""

    def __init__(self, name: str, config: Any, width: int | None):
        self._encoder: TextEncoder = encoders.PLUGINS.load(name).load(config)
        self._encoder.ready(width)
        self._width, self._folder = width, Path(tempfile.mkdtemp(prefix="llmesr-embed-"))

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, list[Any]]:
        """Embeds the texts of a file; returns columns with a row for each text.

        Args:
          batch: "path": (1,), the file.

        Returns:
          "key", "vector" (bytes of float32, empty without a vector), "failed" (the reason, or ""), "shortened" (bool).
        """
        import polars as pl

        (path,) = batch["path"]
        texts = [Text(*row) for row in pl.read_parquet(str(path)).rows()]
        vectors: dict[bytes, bytes] = {}
        failed: dict[bytes, str] = {}
        for answer in self._encoder.encode(texts, self._folder, self._width):
            vectors |= {key: np.ascontiguousarray(vector).tobytes() for key, vector in zip(answer.keys, answer.vectors)}
            failed |= answer.failed
        cut = self._encoder.shortened(self._folder)
        return {
            "key": [text.key for text in texts],
            "vector": [vectors.get(text.key, b"") for text in texts],
            "failed": [failed.get(text.key, "") for text in texts],
            "shortened": [text.key.hex() in cut for text in texts],
        }
