"""The encoder as ONNX, by jax2onnx, compared with the model by onnxruntime: the extra `onnx`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np

from llmesr_jax.core.errors import InputError
from llmesr_jax.serving.live import Functions
from llmesr_jax.serving.model import ServedModel

TOLERANCE = 1e-5  # difference of user vectors, relative to the largest number
INPUTS, OUTPUT = ("views", "ids", "lengths"), "users"


def write(functions: Functions, model: ServedModel, folder: Path, batch: int) -> dict[str, str]:
    """Writes `encoder_<length>.onnx` for each length.

    Its inputs are views (W, V + 2, D) float32, ids (batch, length) int32 and lengths (batch,) int32; its output is
    users (batch, E) float32.

    Shapes are fixed: jax2onnx has no rules for vmap over a symbolic batch of Flax's layers. The function is traced to a
    jaxpr first, so that jax2onnx sees plain operations and not Flax's modules.

    Args:
      functions, model: the model.
      folder: for the files.
      batch: histories at a time.
    Returns: {length: name of the file}.
    Raises:
      InputError: jax2onnx or onnxruntime is not installed, does not support this model, or gives other numbers.
    """
    try:
        import onnxruntime
        from jax2onnx import to_onnx
    except ImportError as error:
        raise InputError(f"--onnx: needs {error.name}; run pip install 'llmesr-jax[onnx]'") from error
    written = {}
    shape = model.views_WxVxD.shape
    for length in functions.lengths:
        path = folder / f"encoder_{length}.onnx"
        arrays = [(shape, jnp.float32), ((batch, length), jnp.int32), ((batch,), jnp.int32)]
        args = [jax.ShapeDtypeStruct(*one) for one in arrays]
        traced = jax.extend.core.jaxpr_as_fun(jax.make_jaxpr(functions.encode)(*args))
        try:
            to_onnx(
                lambda *x, traced=traced: traced(*x)[0],
                args,
                model_name=f"encoder_{length}",
                return_mode="file",
                output_path=str(path),
                input_names=INPUTS,
                output_names=(OUTPUT,),
            )
            options = onnxruntime.SessionOptions()
            options.log_severity_level = 3
            session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
            difference = _difference(session, model, length, batch)
        except Exception as error:  # neither of the two has an error type for what it does not support
            reason = next(iter(str(error).strip().splitlines()), type(error).__name__)[:160]
            raise InputError(
                f"--onnx: jax2onnx or onnxruntime does not support {model.about['backbone']} under "
                f"{model.about['method']} ({reason}); export without --onnx (which backbones work: docs/serving.md)"
            ) from error
        if not difference <= TOLERANCE:
            raise InputError(
                f"--onnx: the user vectors that ONNX computes for {model.about['backbone']} under "
                f"{model.about['method']} differ by {difference:.1e} of the largest; expected at most {TOLERANCE:.0e}; "
                "export without --onnx (which backbones work: docs/serving.md)"
            )
        written[str(length)] = path.name
    return written


def _difference(session: Any, model: ServedModel, length: int, batch: int) -> float:
    """The largest difference from the model over random histories of all lengths, relative to the largest number."""
    rng, worst = np.random.default_rng(0), 0.0
    views, items = np.asarray(model.views_WxVxD), len(model.catalogue)
    counts = np.unique(np.linspace(1, length, 2 * batch + 2).astype(np.int32))
    for start in range(0, len(counts), batch):
        lengths_B = np.resize(counts[start : start + batch], batch).astype(np.int32)
        ids_BxL = rng.integers(1, items + 1, (batch, length)).astype(np.int32)
        ids_BxL[np.arange(length) >= lengths_B[:, None]] = 0
        (found,) = session.run(None, dict(zip(INPUTS, (views, ids_BxL, lengths_B), strict=True)))
        wanted = np.asarray(model.programs.encode[length](model.views_WxVxD, ids_BxL, lengths_B))
        worst = max(worst, float(np.abs(found - wanted).max() / max(1.0, np.abs(wanted).max())))
    return worst
