"""The frozen tables a method asks for, from the user's files or made from the texts, and cached.

    arrays, recipe = prepare(corpus, SemanticConfig(), needs=frozenset({"item_llm", "similar_users"}), pca_width=64)

Where a table comes from, first match:

    item embeddings   item_emb.npy, the authors' pickle, TF-IDF of the item prompts
    user embeddings   user_emb.npy, the authors' pickle, the mean of the items' (where those are a file), TF-IDF
                      (`semantic.encoder=random`: noise for both, the control for what semantics give, and for speed)
    item_pca          the authors' pickle of this width, PCA of the item embeddings
    item_popularity   interactions of each item in the training part
    similar_users     the authors' pickle, cosine top-k of the user embeddings
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from absl import logging

from llmesr_jax.contracts import knob
from llmesr_jax.data import groups
from llmesr_jax.data.corpus import Corpus
from llmesr_jax.errors import InputError
from llmesr_jax.semantic import embed_command, embedding_files, manifest, prompts, stand_ins
from llmesr_jax.semantic.cache import Cache, Recipe, first_writable, user_folder
from llmesr_jax.semantic.encoders import tfidf
from llmesr_jax.semantic.pca import pca_start
from llmesr_jax.semantic.similar_users import similar_users

TABLES = ("item_llm", "item_pca", "item_popularity", "similar_users")
ENCODERS = ("auto", "files", "tfidf", "random")
# Raised when the results of a function change, so that what it made before is made again.
_VERSIONS = {"tfidf": 2, "mean_of_items": 1, "pca_start": 2, "similar_users": 1, "popularity": 1}


@dataclasses.dataclass(frozen=True)
class SemanticConfig:
    """How the frozen tables are made."""

    encoder: str = knob(
        "auto",
        "item and user embeddings: files | tfidf | auto (files if there are any, else tfidf) | random (a control)",
        choices=ENCODERS,
    )
    tfidf_width: int = knob(
        128, "width F of TF-IDF embeddings (less where the items or their words are fewer)", least=1
    )
    random_width: int = knob(1536, "width F of random embeddings", least=1)
    crop: bool = knob(False, "item prompts with name and categories only (the paper's variant)")
    item_template: str = knob("", "item prompts of your own, such as 'A {noun}: {title}[ by {brand}]' (docs/data.md)")
    num_similar: int = knob(100, "similar users kept for each user (training uses the first N of them)", least=1)
    cache_dir: str = knob("", "where computed tables are kept; empty: cache/ in the data folder")
    seed: int = knob(
        42, "of the decompositions and of noise; apart from the training seeds, which share the tables", least=0
    )


class Tables(NamedTuple):
    """Frozen tables and what they were made from.

    Attributes:
      arrays: name -> table.
      recipe: sha256 over the files they were read from and the functions, settings and inputs that computed them.
        It is the same on every machine, where the arrays may differ in their last digits.
    """

    arrays: dict[str, np.ndarray]
    recipe: str


def prepare(corpus: Corpus, config: SemanticConfig, *, needs: frozenset[str], pca_width: int) -> Tables:
    """The tables named in `needs`, and no others.

    Every embedding file there is gets checked before anything is computed or written.

    Args:
      corpus: users, items, their training interactions and, for TF-IDF, their records.
      config: where embeddings come from, and sizes.
      needs: some of `TABLES`.
      pca_width: width of "item_pca".

    Returns:
      Arrays "item_llm": (V + 2, F) float32; rows 0 (padding) and V + 1 (mask token) are zeros.
      "item_pca": (V + 2, pca_width) float32; the same rows are zeros.
      "item_popularity": (V + 2,) int32 training interactions, 1 for an item without any; the same entries are zero.
      "similar_users": (U, min(num_similar, U - 1)) int32 rows of users, from 0, nearest first.

    Raises:
      InputError: an embedding file is not as it should be, or there is nothing to make embeddings from.
    """
    if unknown := needs - set(TABLES):
        raise ValueError(f"unknown tables {sorted(unknown)}; wanted some of {TABLES}")
    if not needs:
        return Tables({}, "")
    semantics = _semantics(corpus, config)
    sources = {
        "item_llm": lambda: semantics.item,
        "item_pca": lambda: _item_pca(semantics, pca_width),
        "item_popularity": lambda: _item_popularity(corpus),
        "similar_users": lambda: _similar_users(semantics),
    }
    wanted = {name: sources[name]() for name in TABLES if name in needs}
    arrays = {name: source.load() for name, source in wanted.items()}
    arrays |= {name: with_padding_and_mask(arrays[name]) for name in arrays if name.startswith("item_")}
    inputs = {name: source.inputs for name, source in wanted.items()}
    return Tables(arrays, hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest())


def derive(corpus: Corpus, config: SemanticConfig, pca_width: int) -> None:
    """Makes and keeps what is computed from the embedding files, so that training finds it there.

    Raises:
      InputError: there are no files, or they are not as they should be.
    """
    of_files = dataclasses.replace(config, encoder="files")
    prepare(corpus, of_files, needs=frozenset({"item_pca", "similar_users"}), pca_width=pca_width)


def describe(corpus: Corpus, config: SemanticConfig) -> str:
    """One line: where the embeddings of items and users come from."""
    if config.encoder == "random":
        return f"embeddings are random (F = {config.random_width})"
    files = embedding_files.find(corpus.folder) if config.encoder != "tfidf" and corpus.folder else {}
    if "item_llm" not in files:
        return "item and user embeddings are TF-IDF of the item texts"
    users = files["user_llm"].name if "user_llm" in files else "means of the training items"
    return f"item embeddings are {files['item_llm'].name}, user embeddings {users}"


def digest(tables: Mapping[str, np.ndarray]) -> str:
    """sha256 over names, types, shapes and content, in order of name."""
    sha256 = hashlib.sha256()
    for name, table in sorted(tables.items()):
        table = np.ascontiguousarray(table)
        sha256.update(f"{name} {table.dtype} {table.shape} ".encode())
        sha256.update(table.data)
    return sha256.hexdigest()


class _Source(NamedTuple):
    """Where a table comes from: name of each thing it depends on -> digest or description, and how to get it."""

    inputs: dict[str, str]
    load: Callable[[], np.ndarray]


@dataclasses.dataclass(frozen=True, eq=False)
class _Semantics:
    """Resolves, once and only when asked, where embeddings come from."""

    corpus: Corpus
    config: SemanticConfig
    cache: Cache
    files: Mapping[str, Path]
    file_digests: Mapping[Path, str]

    @functools.cached_property
    def item(self) -> _Source:
        if self.config.encoder == "random":
            return self._random(self.corpus.num_items, "items")
        if "item_llm" in self.files:
            return self._file("item_llm", self.corpus.num_items, "items")
        return _Source(self._tfidf_inputs, lambda: self._tfidf[0])

    @functools.cached_property
    def user(self) -> _Source:
        if self.config.encoder == "random":
            return self._random(self.corpus.num_users, "users")
        if "user_llm" in self.files:
            return self._file("user_llm", self.corpus.num_users, "users")
        if "item_llm" in self.files:
            path = self.files["item_llm"]
            logging.info("%s: no user embeddings beside it, so a user is the mean of the training items", path)
            made_by = {"mean_of_items": f"version {_VERSIONS['mean_of_items']}"}
            inputs = self.item.inputs | made_by | {"interactions": self.corpus.digest}
            return _Source(inputs, lambda: stand_ins.mean_of_items(self.item.load(), self.corpus))
        return _Source(self._tfidf_inputs, lambda: self._tfidf[1])

    def _random(self, rows: int, kind: str) -> _Source:
        width, seed = self.config.random_width, self.config.seed
        made = functools.cache(lambda: stand_ins.random(rows, width, [seed, kind == "users"]))
        return _Source({"random": f"{kind} {rows} x {width}, seed {seed}"}, made)

    def _file(self, name: str, rows: int, kind: str) -> _Source:
        path = self.files[name]
        read = functools.cache(lambda: embedding_files.map_embedding(path, rows, kind))
        return _Source({path.name: self.file_digests[path]}, read)

    def _texts_V(self) -> Iterator[str]:
        if self.corpus.item_records is None:
            raise InputError(
                f"{self.corpus.folder}: nothing to make item embeddings from; wanted items.jsonl (a title for each "
                f"item) or item_emb.npy ({self.corpus.num_items} rows; user_emb.npy, "
                f"{self.corpus.num_users} rows, is optional)"
            )
        return prompts.item_prompts(self.corpus, self.config.item_template, self.config.crop)

    @property
    def _tfidf_inputs(self) -> dict[str, str]:
        return {**self._tfidf_recipe.inputs, **_settings(self._tfidf_recipe)}

    @functools.cached_property
    def _tfidf_recipe(self) -> Recipe:
        sha256 = hashlib.sha256()
        for number, text in enumerate(self._texts_V()):
            sha256.update((text if number == 0 else "\0" + text).encode(errors="surrogatepass"))
        inputs = {"texts": sha256.hexdigest(), "interactions": self.corpus.digest}
        return _recipe("tfidf", {"width": self.config.tfidf_width, "seed": self.config.seed}, inputs)

    @functools.cached_property
    def _tfidf(self) -> tuple[np.ndarray, ...]:
        width, seed = self.config.tfidf_width, self.config.seed
        files = (f"tfidf_item_{width}.npy", f"tfidf_user_{width}.npy")
        build = lambda: tfidf.latent(self._texts_V(), self.corpus, width, seed)  # noqa: E731
        return self.cache.arrays(files, self._tfidf_recipe, build)


def _semantics(corpus: Corpus, config: SemanticConfig) -> _Semantics:
    """Finds and checks the user's files and the cache."""
    use_files = config.encoder in ("auto", "files") and corpus.folder is not None
    files = embedding_files.find(corpus.folder) if use_files else {}
    if config.encoder == "files" and "item_llm" not in files:
        raise InputError(
            f"{corpus.folder or corpus.name}: no item_emb.npy, but semantic.encoder=files; wanted {corpus.num_items} "
            f"rows of embeddings, row 0 = id 1; run `python -m launch.embed --dataset={corpus.name}`, put it there, or "
            "use semantic.encoder=tfidf"
        )
    if "item_llm" in files:
        manifest.check_usable(corpus.folder, config.crop, config.item_template)
    home = corpus.folder / "cache" if corpus.folder else user_folder(corpus.name)
    asked = [Path(config.cache_dir).expanduser()] if config.cache_dir else []
    cache = Cache(first_writable(*asked, home, user_folder(f"{corpus.name}-{corpus.digest[:12]}")))
    return _Semantics(corpus, config, cache, files, cache.file_digests(_checks(corpus, files)))


def _checks(corpus: Corpus, files: Mapping[str, Path]) -> dict[Path, tuple[int, Callable[[], np.ndarray]]]:
    """For each file, the rows it must have, and how to read it, which raises if it is not as it should be."""
    rows = {"items": corpus.num_items, "users": corpus.num_users}
    kinds = {"item_llm": "items", "item_pca": "items", "user_llm": "users", "similar_users": "users"}
    checks = {}
    for name, path in files.items():
        kind = kinds[name]
        if name == "similar_users":
            read = functools.partial(embedding_files.read_similar_users, path, rows[kind])
        else:
            command = embed_command.after_growth(corpus.name, corpus.folder)
            read = functools.partial(embedding_files.read_embedding, path, rows[kind], kind, command)
        checks[path] = (rows[kind], read)
    return checks


def _item_pca(semantics: _Semantics, width: int) -> _Source:
    """Loads as (V, width) float32."""
    if "item_pca" in semantics.files:
        path = semantics.files["item_pca"]
        given = embedding_files.read_embedding(path, semantics.corpus.num_items, "items")
        if given.shape[1] == width:
            return _Source({path.name: semantics.file_digests[path]}, lambda: given)
    seed, item = semantics.config.seed, semantics.item
    recipe = _recipe("pca_start", {"width": width, "seed": seed}, item.inputs)
    build = lambda: (pca_start(item.load(), width, seed),)  # noqa: E731
    return _computed(semantics, f"item_pca_{width}.npy", recipe, build)


def _item_popularity(corpus: Corpus) -> _Source:
    """Loads as (V,) int32."""
    inputs = {"interactions": corpus.digest, "popularity": f"version {_VERSIONS['popularity']}"}
    return _Source(inputs, lambda: groups.popularity(corpus))


def _similar_users(semantics: _Semantics) -> _Source:
    """Loads as (U, N) int32."""
    num_users = semantics.corpus.num_users
    k = min(semantics.config.num_similar, num_users - 1)
    if "similar_users" in semantics.files:
        path = semantics.files["similar_users"]
        given = embedding_files.read_similar_users(path, num_users)
        if given.shape[1] >= k:
            return _Source({path.name: semantics.file_digests[path], "k": str(k)}, lambda: given[:, :k])
    user = semantics.user
    recipe = _recipe("similar_users", {"k": k}, user.inputs)
    return _computed(semantics, f"similar_users_{k}.npy", recipe, lambda: (similar_users(user.load(), k),))


def _computed(semantics: _Semantics, file: str, recipe: Recipe, build: Callable[[], tuple[np.ndarray, ...]]) -> _Source:
    inputs = {**recipe.inputs, **_settings(recipe)}
    return _Source(inputs, lambda: semantics.cache.arrays((file,), recipe, build)[0])


def _settings(recipe: Recipe) -> dict[str, str]:
    return {recipe.made_by: f"version {recipe.version}, {dict(recipe.parameters)}"}


def _recipe(function: str, parameters: Mapping[str, object], inputs: Mapping[str, str]) -> Recipe:
    return Recipe(function, _VERSIONS[function], parameters, inputs)


def with_padding_and_mask(table: np.ndarray) -> np.ndarray:
    """(V, ...) -> (V + 2, ...): zeros before (padding, id 0) and after (mask token, id V + 1); floats as float32."""
    dtype = np.float32 if np.issubdtype(table.dtype, np.floating) else table.dtype
    padded = np.zeros((len(table) + 2, *table.shape[1:]), dtype)
    padded[1:-1] = table
    return padded
