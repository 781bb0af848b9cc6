"""Writes a bundle: the encoder as StableHLO, the items' vectors, raw ids and texts, and a manifest.

A bundle is first written to a folder beside `--out`, then read back and compared with the run, and only then moved.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np

from llmesr_jax.core import files, locks
from llmesr_jax.core.errors import InputError
from llmesr_jax.ranking import inference
from llmesr_jax.serving import bundle, live, onnx_export
from llmesr_jax.serving.model import ServedModel
from llmesr_jax.serving.run import Run
from llmesr_jax.training import state

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")
TOLERANCE = 1e-5  # of scores, relative to the largest one
_CHECKED = 256  # users whose scores are compared


@dataclasses.dataclass(frozen=True)
class Settings:
    """The content of a bundle.

    Attributes:
      platforms: the names, from `PLATFORMS`, of platforms on which its programs run.
      embeddings: whether it has the frozen embeddings of the items, for new items and diversity; half precision, 2 F
        bytes per item.
      onnx: also write the encoder as ONNX, for so many histories at a time; 0: no ONNX.
      overwrite: replace an existing bundle.
    """

    platforms: tuple[str, ...] = ("cpu", "cuda")
    embeddings: bool = True
    onnx: int = 0
    overwrite: bool = False


def export(run: Run, out: str | Path, settings: Settings = Settings(), seed: int | None = None) -> dict[str, Any]:
    """Writes the bundle of a run's best parameters.

    Args:
      run: of `serving.run.load`.
      out: the folder to make.
      settings: the content of the bundle.
      seed: None for the seed that was best in validation.
    Returns: the manifest.
    Raises:
      InputError: the folder already exists, the model cannot be exported, or the exported model differs from the run.
    """
    out = Path(out).absolute()
    _check_target(out, settings)
    model = run.served(seed)
    params = state.take(run.served_S, run.seeds.index(model.about["seed"]))
    out.parent.mkdir(parents=True, exist_ok=True)
    lock = out.with_name(out.name + ".lock")
    held = locks.take(lock, f"--out={out}: another launch.export is writing it; wait for it, or choose another --out")
    try:
        _check_target(out, settings)  # another export may have ended just now
        work = out.with_name(out.name + ".partial")
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        try:
            manifest = _write(run, model, params, work, settings)
            manifest["parity"] = _compare(run, params, bundle.load(work))
            _store(work, manifest)
        except BaseException:
            shutil.rmtree(work, ignore_errors=True)
            raise
        _put_in_place(work, out)
    finally:
        lock.unlink(missing_ok=True)
        held.release()
    return manifest


def _put_in_place(work: Path, out: Path) -> None:
    if not out.exists():
        work.rename(out)
        return
    old = out.with_name(out.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    out.rename(old)
    work.rename(out)
    shutil.rmtree(old, ignore_errors=True)


def _check_target(out: Path, settings: Settings) -> None:
    if unknown := sorted(set(settings.platforms) - set(PLATFORMS)):
        raise InputError(f"--platforms: {unknown[0]!r} is not known; expected some of: {', '.join(PLATFORMS)}")
    if not settings.platforms:
        raise InputError(f"--platforms: is empty; expected some of: {', '.join(PLATFORMS)}")
    if out.is_symlink():
        raise InputError(
            f"--out={out}: is a link, and so cannot be replaced by a folder; export to a new folder, and then move the "
            "link to it"
        )
    if out.exists() and not (out / bundle.MANIFEST).exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out}: already exists and is not a bundle; choose another --out")
    if (out / bundle.MANIFEST).exists() and not settings.overwrite:
        raise InputError(f"{out}: already has a bundle; choose another --out, or replace the bundle with --overwrite")
    parent = next(path for path in out.parents if path.exists())
    if not os.access(parent, os.W_OK):
        raise InputError(f"{parent}: cannot be written to; check its permissions, or choose another --out")


def _write(run: Run, model: ServedModel, params: Any, work: Path, settings: Settings) -> dict[str, Any]:
    """Writes everything but the parity check; returns the manifest."""
    programs = _write_programs(run, model, params, work, settings.platforms)
    if settings.onnx:
        programs["onnx"] = onnx_export.write(
            live.functions(run.experiment, params, run.tables), model, work, settings.onnx
        )
    np.save(work / "items.npy", model.items_VxE)
    np.save(work / "views.npy", np.asarray(model.views_WxVxD))
    catalogue = model.catalogue
    np.save(work / "counts.npy", catalogue.counts_V)
    np.save(work / "tail.npy", catalogue.tail_V)
    if settings.embeddings and model.embeddings_VxF is not None:
        np.save(work / "embeddings.npy", _halved(model.embeddings_VxF))
    _write_json(work / "ids.json", list(catalogue.ids))
    if catalogue.records is not None:
        _write_json(work / "titles.json", list(catalogue.titles))
        with (work / "items.jsonl").open("w", encoding="utf-8", errors="replace") as file:
            for number, record in enumerate(catalogue.records, 1):
                file.write(json.dumps({**record, "item_id": number}, ensure_ascii=False) + "\n")
    names = list(model.programs.names)
    manifest = {
        "format": bundle.FORMAT,
        "model": model.about,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "platforms": list(settings.platforms),
        "items": len(catalogue),
        "score": "cosine of user and item" if model.about["score"] == "cosine" else "user vector . item vector",
        "parts": names,
        "views": list(model.view_names),
        "columns": _columns(model),
        "longest": model.programs.longest,
        "mapped": live.MAPPED,
        "programs": programs,
    }
    _write_manifest(work, manifest)
    return manifest


def _write_programs(run: Run, model: ServedModel, params: Any, work: Path, platforms: Sequence[str]) -> dict[str, Any]:
    found = live.functions(run.experiment, params, run.tables)
    views, _, width = model.views_WxVxD.shape
    b, n = jax.export.symbolic_shape("b, n")
    float_ = lambda *shape: jax.ShapeDtypeStruct(shape, jnp.float32)  # noqa: E731
    int_ = lambda *shape: jax.ShapeDtypeStruct(shape, jnp.int32)  # noqa: E731
    made: dict[str, Any] = {"encode": {}}
    for length in found.lengths:
        made["encode"][str(length)] = f"encoder_{length}.stablehlo"
        args = float_(views, n, width), int_(b, length), int_(b)
        _write_program(work / made["encode"][str(length)], found.encode, args, platforms)
    made["parts"] = "parts.stablehlo"
    _write_program(work / made["parts"], found.parts, (float_(views, n, width),), platforms)
    if found.semantic:
        made["semantic"] = "semantic.stablehlo"
        llm_width = run.experiment.recommender.sizes.llm_width
        _write_program(work / made["semantic"], found.semantic, (float_(live.MAPPED, llm_width),), platforms)
    return made


def _write_program(path: Path, function: Callable[..., Any], args: tuple, platforms: Sequence[str]) -> None:
    try:
        serialised = jax.export.export(jax.jit(function), platforms=platforms)(*args).serialize()
    except ImportError as error:
        raise InputError("export: needs flatbuffers; run pip install flatbuffers") from error
    except Exception as error:  # jax has no type for what cannot be exported
        reason = next(iter(str(error).splitlines()), type(error).__name__)[:200]
        raise InputError(
            f"{path.stem}: this model cannot be exported for {', '.join(platforms)} ({reason}); recommend from the run "
            "with --workdir, or try fewer --platforms"
        ) from error
    path.write_bytes(serialised)


def _columns(model: ServedModel) -> dict[str, list[int]]:
    """{part: [from, to)}: the columns of a vector in which the part is not zero for all of the first 1,000 items."""
    some = np.asarray(model.programs.parts(model.views_WxVxD[:, 1:1001]))
    found = {}
    for name, part_nxE in zip(model.programs.names, some, strict=True):
        used = np.flatnonzero(np.abs(part_nxE).max(axis=0, initial=0))
        found[name] = [int(used[0]), int(used[-1]) + 1] if len(used) else [0, 0]
    return found


def _halved(embeddings_VxF: np.ndarray) -> np.ndarray:
    """The embeddings in half precision, or in float32 if a number is too large for it."""
    largest = float(np.abs(embeddings_VxF).max(initial=0))
    return embeddings_VxF.astype(np.float16 if largest < np.finfo(np.float16).max else np.float32)


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8", errors="replace")


def _write_manifest(work: Path, manifest: dict[str, Any]) -> None:
    listed = sorted(path for path in work.iterdir() if path.name != bundle.MANIFEST)
    manifest["files"] = {path.name: {"bytes": path.stat().st_size, "sha256": files.sha256(path)} for path in listed}
    _store(work, manifest)


def _store(work: Path, manifest: dict[str, Any]) -> None:
    files.write_text(work / bundle.MANIFEST, json.dumps(manifest, indent=1, ensure_ascii=False) + "\n")


def _compare(run: Run, params: Any, exported: ServedModel) -> dict[str, float]:
    """The largest differences between the bundle and the run as evaluation computes it, relative to the largest value.

    Raises:
      InputError: one is larger than `TOLERANCE`.
    """
    experiment = run.experiment
    corpus, model = experiment.corpus, experiment.recommender
    rows = np.unique(np.linspace(0, corpus.num_users - 1, min(_CHECKED, corpus.num_users)).astype(np.int64))
    histories = inference.histories(
        corpus, rows, corpus.lengths_U[rows], experiment.epochs.plan.config, model.supervision
    )
    # A bundle gets a history without the user.
    histories = histories._replace(user_NxR=jnp.full_like(histories.user_NxR, -1))
    users = np.asarray(inference.user_vectors(model, params, run.tables, histories))
    items = np.asarray(inference.item_vectors(model, params, run.tables))
    ids = [corpus.items[corpus.offsets[row] : corpus.offsets[row + 1]] for row in rows]
    views = exported.views_WxVxD
    found = {"scores": _difference(exported.programs.users(views, ids) @ exported.items_VxE.T, users @ items.T)}
    found["items"] = _difference(np.asarray(exported.programs.parts(views[:, 1:-1])).sum(axis=0), items)
    if exported.programs.semantic is not None:
        own = experiment.tables["item_llm"][1 : 1 + live.MAPPED]
        place = exported.programs.names.index("semantic")
        if not _llm_is_trained(params):
            found["semantic"] = _difference(exported.programs.semantic(own), np.asarray(views[place])[1 : 1 + len(own)])
    for what, difference in found.items():
        if not difference <= TOLERANCE:
            raise InputError(
                f"the exported {what} differ from the run's by {difference:.1e} of the largest; expected at most "
                f"{TOLERANCE:.0e}; nothing was written; recommend from the run with --workdir, and report this"
            )
    return found


def _llm_is_trained(params: Any) -> bool:
    return "llm_table" in params


def _difference(found: np.ndarray, wanted: np.ndarray) -> float:
    return float(np.abs(found - wanted).max() / max(1.0, np.abs(wanted).max()))
