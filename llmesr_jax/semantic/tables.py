"""The frozen tables of a method, read from the user's files or made from the texts, and cached.

    arrays, recipe = prepare(corpus, SemanticConfig(), needs=frozenset({"item_llm", "similar_users"}), pca_width=64)

The source of a table is the first of these that exists:

    item embeddings   item_emb.npy, the authors' pickle, TF-IDF of the item prompts
    user embeddings   user_emb.npy, the authors' pickle, the mean of the items' (if those are a file), TF-IDF
                      (`semantic.encoder=random`: noise for both, as a control experiment, or to measure speed)
    item_pca          the authors' pickle of this width, PCA of the item embeddings
    item_popularity   interactions of each item in the training part
    tail_item         which items are tail (`data.groups`, by training interactions)
    tail_user         which users are tail
    user_llm          the user embeddings
    similar_users     the authors' pickle (unless a user embedding is zero), cosine top-k of the user embeddings
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import numpy as np

from llmesr_jax.core.axes import ITEM, TABLES
from llmesr_jax.core.errors import InputError
from llmesr_jax.data import groups
from llmesr_jax.data.corpus import Corpus
from llmesr_jax.semantic import approximate_similar_users, embedding_files
from llmesr_jax.semantic.cache import Recipe
from llmesr_jax.semantic.mapped import Access, MappedTable
from llmesr_jax.semantic.pca import pca_start
from llmesr_jax.semantic.similar_users import embedded, similar_users
from llmesr_jax.semantic.sources import (
    VERSIONS,
    SemanticConfig,
    Semantics,
    Source,
    files_of,
    recipe_of,
    semantics_of,
    settings_of,
)

_ALIGNMENT = 64  # bytes; JAX's CPU device uses memory that is so aligned without a copy


# Tables that are counted from interactions alone; the others in `core.axes.TABLES` are made from embeddings.
COUNTED = frozenset({"item_popularity", "tail_item", "tail_user"})


class Tables(NamedTuple):
    """Frozen tables and what they were made from.

    Attributes:
      arrays: name -> table; a `MappedTable` for some of them, if `access` says so.
      recipe: sha256 over the files they were read from and the functions, settings and inputs that computed them. It is
        the same on every machine, although the arrays may differ in their last digits.
    """

    arrays: dict[str, np.ndarray]
    recipe: str


def prepare(
    corpus: Corpus, config: SemanticConfig, *, needs: frozenset[str], pca_width: int, access: Access = Access()
) -> Tables:
    """The tables named in `needs`, and only these.

    Every existing embedding file is checked before anything is computed or written.

    Args:
      corpus: users, items, their training interactions and, for TF-IDF, their records.
      config: where embeddings come from, and sizes.
      needs: some of `core.axes.TABLES`.
      pca_width: width of "item_pca".
      access: whether tables of embeddings are read or memory-mapped.

    Returns:
      Arrays "item_llm": (V + 2, F) float32; rows 0 (padding) and V + 1 (mask token) are zeros.
      "item_pca": (V + 2, pca_width) float32; the same rows are zeros.
      "item_popularity": (V + 2,) int32 training interactions, 1 for an item without any; the same entries are zero.
      "tail_item": (V + 2,) bool; the same entries are False.
      "tail_user": (U,) bool.
      "user_llm": (U, F) float32.
      "similar_users": (U, min(num_similar, T - 1)) int32 rows of users, from 0, nearest first; T: users with training
        items and an embedding that is not zero. -1 in the whole row of a user without an embedding.

    Raises:
      InputError: a name is not known, an embedding file is not valid, or there is nothing to make embeddings from.
    """
    if unknown := needs - set(TABLES):
        raise InputError(
            f"unknown tables {sorted(unknown)}; expected some of {', '.join(TABLES)}, or the method's own tables"
        )
    if not needs:
        return Tables({}, "")
    semantics = semantics_of(corpus, config, access) if needs - COUNTED else None
    sources: dict[str, Callable[[], Source]] = {
        "item_llm": lambda: semantics.item,
        "item_pca": lambda: _item_pca(semantics, pca_width),
        "item_popularity": lambda: _counted(corpus, "popularity", lambda: groups.popularity(corpus)),
        "tail_item": lambda: _counted(corpus, "tail", lambda: ~groups.head_items(corpus)),
        "tail_user": lambda: _counted(corpus, "tail", lambda: ~groups.head_users(corpus)),
        "user_llm": lambda: semantics.user,
        "similar_users": lambda: _similar_users(semantics),
    }
    wanted = {name: sources[name]() for name in TABLES if name in needs}
    arrays = {name: source.load() for name, source in wanted.items()}
    if {"item_llm", "user_llm"} <= arrays.keys():
        _check_same_space(semantics, arrays["item_llm"].shape[1], arrays["user_llm"].shape[1])
    if access.mapped:
        of_embeddings = {"item_llm": 1, "item_pca": 1, "user_llm": 0}
        arrays |= {name: MappedTable(arrays[name], more) for name, more in of_embeddings.items() if name in arrays}
    of_items = [name for name in arrays if TABLES[name].axis == ITEM and isinstance(arrays[name], np.ndarray)]
    arrays |= {name: with_padding_and_mask(arrays[name]) for name in of_items}
    if isinstance(arrays.get("user_llm"), np.ndarray):
        arrays["user_llm"] = copied(arrays["user_llm"])  # it may be a memory-mapped file, which can change
    inputs = {name: source.inputs for name, source in wanted.items()}
    return Tables(arrays, hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest())


def derive(corpus: Corpus, config: SemanticConfig, pca_width: int) -> None:
    """Computes and caches the tables that depend on the embedding files, so that training finds them.

    Raises:
      InputError: there are no files, or a file is not valid.
    """
    of_files = dataclasses.replace(config, encoder="files")
    prepare(corpus, of_files, needs=frozenset({"item_pca", "similar_users"}), pca_width=pca_width)


def describe(corpus: Corpus, config: SemanticConfig) -> str:
    """One line: where the embeddings of items and users come from."""
    if config.encoder == "random":
        return f"embeddings are random (F = {config.random_width})"
    files = files_of(corpus, config)
    if "item_llm" not in files and "user_llm" in files:
        return f"item embeddings are TF-IDF of the item texts, user embeddings {files['user_llm'].name}"
    if "item_llm" not in files:
        return "item and user embeddings are TF-IDF of the item texts"
    users = files["user_llm"].name if "user_llm" in files else "means of the training items"
    within = f" (of {config.folder})" if config.folder else ""
    return f"item embeddings are {files['item_llm'].name}{within}, user embeddings {users}"


def digest(tables: Mapping[str, np.ndarray]) -> str:
    """sha256 over names, types, shapes and content, in order of name."""
    sha256 = hashlib.sha256()
    for name, table in sorted(tables.items()):
        sha256.update(f"{name} {table.dtype} {table.shape} ".encode())
        for block in table.blocks() if isinstance(table, MappedTable) else (table,):
            sha256.update(np.ascontiguousarray(block).data)
    return sha256.hexdigest()


def sampled(tables: Mapping[str, np.ndarray]) -> str:
    """As `digest`, but of memory-mapped tables only some rows count, with their types and shapes."""
    rows = {name: table.sample() if isinstance(table, MappedTable) else table for name, table in tables.items()}
    return f"{digest(rows)} {[(name, table.shape) for name, table in sorted(tables.items())]}"


def _check_same_space(semantics: Semantics, item_width: int, user_width: int) -> None:
    """Checks that the vectors of items and users may be from one model, because one network maps both.

    Vectors of users from a file need vectors of items from a file, and both must have the same width.
    """
    items, users = (semantics.files.get(name) for name in ("item_llm", "user_llm"))
    if users and not items:
        raise InputError(
            f"{users}: has embeddings of users, but there are none of items beside it (they are TF-IDF); expected "
            "both, as this method maps items and users by one network; add item_emb.npy, or set "
            "--config.semantic.encoder=tfidf"
        )
    if item_width != user_width:
        raise InputError(
            f"{users}: is {user_width} wide and {items.name} is {item_width}; expected one width, as this method maps "
            "items and users by one network; embed both with the same model"
        )


def _item_pca(semantics: Semantics, width: int) -> Source:
    """The source of "item_pca", (V, width) float32."""
    if "item_pca" in semantics.files:
        path = semantics.files["item_pca"]
        given = embedding_files.read_embedding(path, semantics.corpus.num_items, "items")
        if given.shape[1] == width:
            return Source({path.name: semantics.file_digests[path]}, lambda: given)
    seed, item = semantics.config.seed, semantics.item
    recipe = recipe_of("pca_start", {"width": width, "seed": seed}, item.inputs)
    build = lambda: (pca_start(item.load(), width, seed),)  # noqa: E731
    return _computed(semantics, f"item_pca_{width}.npy", recipe, build)


def _counted(corpus: Corpus, what: str, load: Callable[[], np.ndarray]) -> Source:
    """The source of a table that is counted from the training interactions alone."""
    return Source({"interactions": corpus.digest, what: f"version {VERSIONS[what]}"}, load)


def _similar_users(semantics: Semantics) -> Source:
    """The source of "similar_users", int32 (U, N); users without training items or an embedding are in no row."""
    num_users = semantics.corpus.num_users
    trained_U, embedded_U = semantics.corpus.train_lengths_U > 0, _embedded(semantics)
    k = max(min(semantics.config.num_similar, int((trained_U & embedded_U).sum()) - 1), 0)
    if "similar_users" in semantics.files:
        path = semantics.files["similar_users"]
        given = embedding_files.read_similar_users(path, num_users)
        if given.shape[1] >= k and trained_U.all() and embedded_U.all():
            return Source({path.name: semantics.file_digests[path], "k": str(k)}, lambda: given[:, :k])
    user = semantics.user
    inputs = dict(user.inputs)
    for what, found_U in (("training items", trained_U), ("an embedding", embedded_U)):
        if not found_U.all():
            inputs[f"users without {what}"] = hashlib.sha256(np.packbits(found_U).tobytes()).hexdigest()
    kind = semantics.config.similar_index
    recipe = recipe_of("similar_users", {"k": k} | ({"index": kind} if kind != "exact" else {}), inputs)
    make = lambda: (_nearest(user.load(), k, trained_U, kind),)  # noqa: E731
    return _computed(semantics, f"similar_users_{k}.npy", recipe, make)


def _nearest(user_UxF: np.ndarray, k: int, among_U: np.ndarray, kind: str) -> np.ndarray:
    """(U, k) similar users, by exact search or by a graph."""
    if kind == "exact":
        return similar_users(user_UxF, k, among_U=among_U)
    found, recall = approximate_similar_users.similar_users(user_UxF, k, kind, among_U)
    print(f"similar users by {kind}: recall {recall:.4f} of exact search, by a sample of users", flush=True)
    return found


def _embedded(semantics: Semantics) -> np.ndarray:
    """bool (U,): users whose embedding is not zero. Cached, so that a large file is not read at each start.

    All users, if the authors' similar users are there without the embeddings from which they were made.
    """
    if "similar_users" in semantics.files and "user_llm" not in semantics.files:
        return np.ones(semantics.corpus.num_users, bool)
    user = semantics.user
    recipe = recipe_of("embedded", {}, user.inputs)
    return semantics.cache.arrays(("users_embedded.npy",), recipe, lambda: (embedded(user.load()),))[0]


def _computed(semantics: Semantics, file: str, recipe: Recipe, build: Callable[[], tuple[np.ndarray, ...]]) -> Source:
    inputs = {**recipe.inputs, **settings_of(recipe)}
    return Source(inputs, lambda: semantics.cache.arrays((file,), recipe, build)[0])


def with_padding_and_mask(table: np.ndarray) -> np.ndarray:
    """(V, ...) -> (V + 2, ...): zeros before (padding, id 0) and after (mask token, id V + 1); floats as float32."""
    return _copied(table, 1)


def copied(table: np.ndarray) -> np.ndarray:
    """A read-only copy, floats as float32, which a CPU device uses without another copy."""
    return _copied(table, 0)


def on_device(arrays: Mapping[str, np.ndarray]) -> dict[str, jax.Array]:
    """The tables on the device. On a CPU this shares memory with the tables of `prepare`."""
    arrays = {name: copied(x[:]) if isinstance(x, MappedTable) else x for name, x in arrays.items()}
    # An array that can be written to must be copied, because the device relies on constant memory.
    put = lambda array: jax.device_put(np.array(array) if array.flags.writeable else array)  # noqa: E731
    return {name: put(array) for name, array in arrays.items()}


def brought(
    arrays: Mapping[str, np.ndarray], place: Callable[[Mapping[str, np.ndarray]], dict[str, jax.Array]] | None
) -> dict[str, jax.Array]:
    """The tables on the devices.

    Args:
      arrays: as of `prepare`.
      place: puts them on several devices; None for one device.

    Raises:
      InputError: a file was changed since it was opened.
    """
    found = on_device(arrays) if place is None else place(arrays)
    for table in arrays.values():
        if isinstance(table, MappedTable):
            table.check_unchanged()
    return found


def _copied(table: np.ndarray, more: int) -> np.ndarray:
    """A read-only copy with `more` rows of zeros at either end, floats as float32, aligned like JAX's own arrays."""
    dtype = np.dtype(np.float32 if np.issubdtype(table.dtype, np.floating) else table.dtype)
    shape = (len(table) + 2 * more, *table.shape[1:])
    size = math.prod(shape) * dtype.itemsize
    memory = np.zeros(size + _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    copy = memory[start : start + size].view(dtype).reshape(shape)
    copy[more : len(table) + more] = table
    copy.flags.writeable = False
    return copy
