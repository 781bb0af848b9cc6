"""Sentence-transformers models, on this machine: any name of the Hugging Face hub, or the path of a model's folder.

pip install sentence-transformers
python -m launch.embed --dataset=fashion --encoder=sentence_transformers --model=all-MiniLM-L6-v2
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from llmesr_jax.core import files
from llmesr_jax.core.errors import InputError
from llmesr_jax.core.knobs import knob
from llmesr_jax.semantic.encoders import Answer, Text, TextEncoder

TAKES = "texts"

_BATCHES = 16  # maximum number of batches in one call of the library
_SECONDS = 1.0  # that such a call should take


@dataclasses.dataclass(frozen=True)
class Config:
    model: str = knob("", "name of the model in its server or library, or the path of its folder")
    batch_size: int = knob(64, "texts per request, or per pass through the model", least=1)
    device: str = knob("", "device of the model, such as cpu or cuda; empty: the library's choice")


def load(config: Config) -> TextEncoder:
    """Loads the model.

    Raises:
      InputError: the package is not installed, no model is named, or the model cannot be loaded.
    """
    if not config.model:
        raise InputError("--model is missing; expected a model's name or folder for --encoder=sentence_transformers")
    try:
        import sentence_transformers
    except ImportError as error:
        raise InputError(
            f"--encoder=sentence_transformers: {error.name or error} is not installed; "
            "run pip install sentence-transformers"
        ) from error
    try:
        model = sentence_transformers.SentenceTransformer(config.model, device=config.device or None)
    except Exception as error:  # of many kinds: no such folder, no network, a damaged file
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise InputError(
            f"--model={config.model}: cannot be loaded ({reason}); expected the name of a sentence-transformers model "
            "or its folder; without a network, only models that were loaded before are available"
        ) from error

    def encode(texts: Iterable[Text], folder: Path, width: int | None) -> Iterator[Answer]:
        del folder, width
        texts, batches = iter(texts), 1
        while some := list(itertools.islice(texts, batches * config.batch_size)):
            started = time.monotonic()
            vectors = model.encode(
                [text.text for text in some],
                batch_size=config.batch_size,
                show_progress_bar=False,
                convert_to_numpy=True,
                normalize_embeddings=False,
            )
            # The library sorts the texts of a call by length, so more are faster; but an interrupt waits for the call.
            seconds = time.monotonic() - started
            batches = min(2 * batches, _BATCHES) if seconds < _SECONDS / 2 else max(1, batches // 2)
            yield Answer([text.key for text in some], np.asarray(vectors, np.float32))

    # Longer texts are cut by the model itself.
    notes = {"max_tokens": getattr(model, "max_seq_length", None), "library": sentence_transformers.__version__}
    return TextEncoder(_identity(config.model), encode, notes=lambda: notes)


def _identity(model: str) -> dict[str, str]:
    """The model's name; for a folder, its last part and a digest of its content, without its path."""
    folder = Path(model)
    if not folder.is_dir():
        return {"model": model}
    sha256 = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        sha256.update(str(path.relative_to(folder)).encode())
        sha256.update(bytes.fromhex(files.sha256(path)))
    return {"model": folder.resolve().name, "files": sha256.hexdigest()}
