"""Embeds the items and users of a data folder, and writes the files there.

In order: name and count the texts; find the vectors that already exist, in the files or, from an interrupted run, in
the store; print the cost of the rest, and ask; encode, storing each vector as it arrives; write the files; remove the
store. No file in the folder changes before all files are complete.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from llmesr_jax.core.errors import InputError
from llmesr_jax.core.interrupts import Stop
from llmesr_jax.data.corpus import Corpus
from llmesr_jax.data.splits import LEAVE_ONE_OUT
from llmesr_jax.semantic import (
    confirm,
    encoders,
    manifest,
    prompts,
    ray_data,
    rows,
    shards,
    skipped,
    stand_ins,
    texts,
)
from llmesr_jax.semantic import store as store_lib
from llmesr_jax.semantic.encoders import Cost, TextEncoder
from llmesr_jax.semantic.filling import Filling, without
from llmesr_jax.semantic.shards import Shard
from llmesr_jax.semantic.store import Store
from llmesr_jax.semantic.texts import Plan, Wording

_READ_ONLY = {errno.EACCES, errno.EPERM, errno.EROFS}


class Options(NamedTuple):
    """What `embed` does and may do.

    Attributes:
      float16: write float16, which has half the size and three significant digits.
      append: embed only new items and users; existing rows stay bit for bit.
      overwrite: replace files that were not made by the same encoder and settings.
      yes: spend money without asking.
      dry_run: stop after the counts and the price.
      skip_failed: texts without a usable vector get rows of zeros and are counted; else they are an error.
      shard: embed only its texts, and write no files: see `shards`.
      ray: actors of Ray that encode; None: this process encodes.
    """

    float16: bool = False
    append: bool = False
    overwrite: bool = False
    yes: bool = False
    dry_run: bool = False
    skip_failed: bool = False
    shard: Shard | None = None
    ray: ray_data.Actors | None = None


def embed(
    corpus: Corpus, encoder: str, config: Any, wording: Wording, options: Options, *, stop: Stop | None = None
) -> bool:
    """Writes item_emb.npy (V, F), user_emb.npy (U, F) and embeddings.json into the corpus's folder; row 0 is id 1.

    Args:
      corpus: whose items and users are embedded.
      encoder: a file of `llmesr_jax.semantic.encoders`.
      config: its `Config`.
      wording: how the texts are made.
      options: see `Options`.
      stop: after a request nothing more is sent, and pending answers are stored.

    Returns:
      Whether the folder has the files now; False after a dry run, or for a shard.

    Raises:
      InputError: a mistake in the input, or a failed server. Paid vectors are kept, and the same call continues.
      KeyboardInterrupt: `stop` was requested; the same call continues.
      OSError: a file cannot be written, as when the disk is full; the same call continues.
    """
    if corpus.folder is None:
        raise InputError(
            f"{corpus.name}: is made in memory and has no folder for embeddings; set --data_dir to a prepared folder"
        )
    replaces = options.shard is None and not options.dry_run
    try:
        with _alone(corpus.folder) if replaces else contextlib.nullcontext():
            return _embed(corpus, corpus.folder, encoder, config, wording, options, stop or Stop())
    except OSError as error:
        if error.filename is None:  # a write to an open file raises an error without a name
            raise OSError(error.errno, error.strerror, str(corpus.folder)) from error
        raise


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Locks the files of a data folder, so that two commands do not replace them together.

    Raises:
      InputError: another process has them locked.
    """
    name, cache = "embed.lock", folder / "cache"
    try:
        cache.mkdir(exist_ok=True)
        held = store_lib.take(cache, name)
    except OSError as error:
        if error.errno not in _READ_ONLY:
            raise
        yield  # such files cannot be replaced
        return
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # Windows deletes no file that is open
            (cache / name).unlink(missing_ok=True)
        held.release()
        with contextlib.suppress(OSError):  # other things are there
            cache.rmdir()


def _embed(
    corpus: Corpus, folder: Path, encoder: str, config: Any, wording: Wording, options: Options, stop: Stop
) -> bool:
    module = encoders.PLUGINS.load(encoder)
    by_text = module.load(config) if module.TAKES == "texts" else None
    dtype = np.dtype(np.float16 if options.float16 else np.float32)
    identity = by_text.identity if by_text else module.identity(config)
    made = {
        "made_by": {"encoder": encoder, **identity, **wording._asdict(), "dtype": str(dtype)},
        "inputs": {"interactions": corpus.digest, "items.jsonl": manifest.file_digest(folder / "items.jsonl")},
    }
    if corpus.split.name != LEAVE_ONE_OUT:
        made["inputs"]["split"] = corpus.split.name
    if by_text and by_text.most_tokens is not None:
        made["inputs"]["most_tokens"] = by_text.most_tokens
    manifest.finish(folder)
    state = manifest.look(folder, made)
    if state.up_to_date and (options.skip_failed or not state.previous["counts"].get("skipped")):
        if options.shard is None and not options.dry_run:
            manifest.remove_partials(folder)
        if by_text and options.shard is None and not options.dry_run:
            shutil.rmtree(_store_folder(folder, by_text, encoder), ignore_errors=True)
            shards.remove(_store_folder(folder, by_text, encoder))
        print(f"{folder}: the embeddings are up to date; nothing to do")
        return True
    for flag in ("append", "shard", "ray"):
        if getattr(options, flag) and by_text is None:
            raise InputError(f"--{flag}: encoder {encoder} makes all vectors together; run without --{flag}")
    if options.append or not options.dry_run:
        state.check(append=options.append, overwrite=options.overwrite)
    if by_text is None:
        return _in_one_go(corpus, module, config, wording, options, made)
    old = rows.read_old(folder, state.previous) if state.same_vectors(wording._fields) else None
    if not options.dry_run:
        stored = store_lib.known_width(_store_folder(folder, by_text, encoder))
        by_text.ready(old.items.shape[1] if old else by_text.width or stored)
        if options.ray:
            by_text = ray_data.distributed(by_text, encoder, config, options.ray)
    return _text_by_text(corpus, by_text, wording, options, made, old, stop)


def _in_one_go(corpus: Corpus, module: ModuleType, config: Any, wording: Wording, options: Options, made: dict) -> bool:
    """Vectors of an encoder that takes the corpus."""
    print(f"{corpus.folder}: {corpus.num_items:,} items and {corpus.num_users:,} users, at no cost", flush=True)
    if options.dry_run:
        return _stopped()
    lines = _item_texts(corpus, wording)
    items_VxF, users_UxF = module.embed(corpus, lines, config)
    given = users_UxF is not None
    if users_UxF is None:
        users_UxF = stand_ins.mean_of_items(items_VxF, corpus)
    if items_VxF.shape[1] != users_UxF.shape[1]:
        raise InputError(
            f"the vectors of items have width {items_VxF.shape[1]}, those of users {users_UxF.shape[1]}; expected the "
            "same width; embed both with the same model"
        )
    made["counts"] = {"items": corpus.num_items, "users": corpus.num_users}
    arrays = {"items": items_VxF, "users": users_UxF}
    wrong = {
        kind: skipped.rows_of_files(corpus, kind, arrays[kind], options.skip_failed)
        for kind in ("items", "users")[: 1 + given]
        if not getattr(module, "UNKNOWN_WORDS", False)
    }
    if any(wrong.values()):
        made |= skipped.listed(corpus, wrong)
        made["counts"]["skipped"] = sum(map(len, wrong.values()))
    dtype = np.dtype(made["made_by"]["dtype"])
    blocks = zip(manifest.ARRAYS, arrays.items())
    _write(corpus, made, {name: rows.cast(array, dtype, wrong.get(kind, {})) for name, (kind, array) in blocks})
    return True


def _text_by_text(
    corpus: Corpus,
    encoder: TextEncoder,
    wording: Wording,
    options: Options,
    made: dict,
    old: rows.Old | None,
    stop: Stop,
) -> bool:
    """Vectors of an encoder that takes one text after the other."""
    first = (len(old.items), len(old.users)) if options.append else (0, 0)
    if first[0] > corpus.num_items or first[1] > corpus.num_users:
        raise InputError(
            f"{corpus.folder}: has embeddings of {first[0]} items and {first[1]} users, but the data have "
            f"{corpus.num_items} and {corpus.num_users}; expected at least as many for --append; run without --append"
        )
    if first == (corpus.num_items, corpus.num_users):
        print(f"{corpus.folder}: no new items or users; nothing to do")
        return True
    plan = texts.plan(corpus, wording, encoder.clip, *first)
    if not options.append:  # a few new items or users may all be without a text
        texts.check_told(corpus, plan, wording)
    in_old_W = rows.find(old.keys_N if old else None, plan.different_W)
    of_all = _store_folder(corpus.folder, encoder, made["made_by"]["encoder"])
    folder = options.shard.folder(of_all) if options.shard else of_all
    encoder = shards.with_shards(encoder, of_all)
    if options.dry_run and not folder.exists():  # opening the store would make the folder
        _announce(corpus, plan, encoder, in_old_W < 0)
        return _stopped()
    with Store(
        folder, {**encoder.identity, "source": encoder.source}, old.items.shape[1] if old else encoder.width
    ) as store:
        if options.shard is None and not options.dry_run:
            shards.merge(store, of_all)
        mine_W = options.shard.has(plan.different_W) if options.shard else None
        filling = Filling(store, plan, encoder, lambda: texts.stream(corpus, wording, *first), old, in_old_W, mine_W)
        cost = _announce(corpus, plan, encoder, filling.missing_W, mine_W)
        if options.dry_run:
            return _stopped()
        if filling.missing_W.any() and cost is not None and cost.ask and not options.yes:
            confirm.ask()
        filling.run(stop, options.skip_failed)
        if options.shard:
            skipped.rows_of_texts(corpus, plan, filling, first, options.skip_failed)
            print(
                f"{corpus.folder}: {options.shard}: {filling.done}; when all shards are done, the same command without "
                "--shards and --shard merges them",
                flush=True,
            )
            return False
        counts, failed = _counts(plan), skipped.rows_of_texts(corpus, plan, filling, first, options.skip_failed)
        plan = without(plan, list(filling.failed))
        new = rows.New.of(plan, old, in_old_W, store, np.dtype(made["made_by"]["dtype"]), keep=options.append)
        if options.append:
            made["appended"] = True  # texts of old rows may have changed since
        shortened = len(encoder.shortened(store.folder))
        rows_of = {"items": corpus.num_items, "users": corpus.num_users}
        made["counts"] = {**rows_of, **counts, "shortened": shortened}
        made["counts"]["skipped"] = sum(map(len, failed.values()))
        made |= skipped.listed(corpus, failed)
        if shortened:
            print(f"{corpus.folder}: {shortened:,} texts were too long for the server and were cut")
        made["notes"] = {"source": encoder.source, **encoder.notes()}
        made["texts"] = rows.write_keys(corpus.folder, new.keys())
        _write(corpus, made, new.blocks())
        store.remove()
        shards.remove(of_all)
        rows.forget_keys(corpus.folder, made["texts"])
    return True


def _write(corpus: Corpus, made: dict, blocks: dict[str, Iterator[np.ndarray]]) -> None:
    """Writes arrays and manifest, completely or not at all."""
    counts = dict(zip(manifest.ARRAYS, (corpus.num_items, corpus.num_users)))
    partials = {name: manifest.partial(corpus.folder, name) for name in blocks}
    try:
        made["arrays"] = {n: manifest.write_array(partials[n], counts[n], some) for n, some in blocks.items()}
    except BaseException:
        for path in partials.values():
            path.unlink(missing_ok=True)
        raise
    manifest.replace_files(corpus.folder, made)
    shapes = ", ".join(f"{name} {tuple(entry['shape'])}" for name, entry in made["arrays"].items())
    print(f"{corpus.folder}: {shapes}, {made['made_by']['dtype']}", flush=True)


def _store_folder(folder: Path, encoder: TextEncoder, name: str) -> Path:
    source = json.dumps([name, encoder.identity, encoder.source], sort_keys=True)
    return folder / "cache" / f"embed-{hashlib.sha256(source.encode()).hexdigest()[:12]}"


def _item_texts(corpus: Corpus, wording: Wording) -> Iterator[str]:
    """As `prompts.item_prompts`, but errors are raised only when texts are read: an encoder may need none."""
    yield from prompts.item_prompts(corpus, wording.item_template, wording.crop)


def _announce(
    corpus: Corpus, plan: Plan, encoder: TextEncoder, missing_W: np.ndarray, mine_W: np.ndarray | None = None
) -> Cost | None:
    """Prints the number of texts to embed and their cost, and returns the cost."""
    missing, users = int(missing_W.sum()), len(plan.which_N) - plan.num_items
    parts = [f"{plan.num_items:,} items and {users:,} users", f"{len(missing_W):,} different texts"]
    if plan.empty:
        parts.append(f"{plan.empty:,} without any text (rows of zeros)")
    if plan.cut:
        parts.append(f"{plan.cut:,} too long, and cut")
    mine = len(missing_W) if mine_W is None else int(mine_W.sum())
    if mine_W is not None:
        parts.append(f"{mine:,} of this shard")
    parts.append(f"{mine - missing:,} embedded before, {missing:,} to embed")
    cost = encoder.cost(missing, int(plan.tokens_W[missing_W].sum()))
    if cost is not None and missing:
        parts.append(cost.text)
    print(f"{corpus.folder}: {'; '.join(parts)}", flush=True)
    return cost


def _stopped() -> bool:
    print("stopped because of --dry_run; nothing was sent or written")
    return False


def _counts(plan: Plan) -> dict[str, int]:
    return {
        "texts": len(plan.which_N),
        "different": len(plan.different_W),
        "empty": plan.empty,
        "cut": plan.cut,
        "tokens_about": int(plan.tokens_W.sum()),
    }
