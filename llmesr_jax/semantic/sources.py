"""The sources of the embeddings of items and users: the user's files, TF-IDF of the texts, or noise."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from absl import logging

from llmesr_jax.core import commands, graphs
from llmesr_jax.core.errors import InputError
from llmesr_jax.core.knobs import knob
from llmesr_jax.data.corpus import Corpus
from llmesr_jax.semantic import (
    embed_command,
    embedding_files,
    file_checks,
    manifest,
    prompts,
    stand_ins,
)
from llmesr_jax.semantic.cache import Cache, Recipe, first_writable, user_folder
from llmesr_jax.semantic.encoders import tfidf
from llmesr_jax.semantic.mapped import Access

ENCODERS = ("auto", "files", "tfidf", "random")
# The versions of the functions that make tables: raised when results change, so that cached tables are made again.
VERSIONS = {
    "tfidf": 2,
    "mean_of_items": 1,
    "pca_start": 2,
    "similar_users": 1,
    "embedded": 1,
    "popularity": 1,
    "tail": 1,
    "random": 2,
}


@dataclasses.dataclass(frozen=True)
class SemanticConfig:
    """Settings of the frozen tables."""

    encoder: str = knob(
        "auto",
        "source of item and user embeddings: files | tfidf | auto (files if there are any, else tfidf) | random (a "
        "control)",
        choices=ENCODERS,
    )
    folder: str = knob(
        "",
        "folder with item_emb.npy and user_emb.npy, relative to the data folder; empty: the data folder itself",
    )
    tfidf_width: int = knob(128, "width F of TF-IDF embeddings (less if there are fewer items or words)", least=1)
    random_width: int = knob(1536, "width F of random embeddings", least=1)
    crop: bool = knob(False, "item prompts with name and categories only (the paper's variant)")
    item_template: str = knob("", "your own item prompt, such as 'A {noun}: {title}[ by {brand}]' (docs/embeddings.md)")
    num_similar: int = knob(100, "similar users kept for each user (training uses the first N of them)", least=1)
    similar_index: str = knob(
        "exact",
        "search for similar users; faiss and usearch are approximate, for millions of users",
        choices=graphs.KINDS,
    )
    cache_dir: str = knob("", "folder for cached tables; empty: cache/ in the data folder")
    seed: int = knob(
        42,
        "seed of the decompositions and of noise; it is separate from the training seeds, which share the tables",
        least=0,
    )


class Source(NamedTuple):
    """The source of a table.

    Attributes:
      inputs: name of each input -> its digest or description.
      load: () -> the table, without rows for padding and mask token.
    """

    inputs: dict[str, str]
    load: Callable[[], np.ndarray]


@dataclasses.dataclass(frozen=True, eq=False)
class Semantics:
    """The sources of the embeddings of items and users, each determined once, when it is first used."""

    corpus: Corpus
    config: SemanticConfig
    cache: Cache
    files: Mapping[str, Path]
    file_digests: Mapping[Path, str]

    @functools.cached_property
    def item(self) -> Source:
        """The source of the item embeddings."""
        if self.config.encoder == "random":
            return self._random(self.corpus.num_items, "items")
        if "item_llm" in self.files:
            return self._file("item_llm", self.corpus.num_items, "items")
        return Source(self._tfidf_inputs, lambda: self._tfidf[0])

    @functools.cached_property
    def user(self) -> Source:
        """The source of the user embeddings.

        Raises:
          InputError: launch.embed made them from the training part of another split.
        """
        if self.config.encoder == "random":
            return self._random(self.corpus.num_users, "users")
        if "user_llm" in self.files:
            manifest.check_users(self.files["user_llm"].parent, self.corpus.split.name)
            return self._file("user_llm", self.corpus.num_users, "users")
        if "item_llm" in self.files:
            path = self.files["item_llm"]
            logging.info(
                "%s: has no user embeddings beside it, so a user is the mean of the user's training items", path
            )
            made_by = {"mean_of_items": f"version {VERSIONS['mean_of_items']}"}
            inputs = self.item.inputs | made_by | {"interactions": self.corpus.digest}
            return self._made("mean_of_items", inputs, lambda: stand_ins.mean_of_items(self.item.load(), self.corpus))
        return Source(self._tfidf_inputs, lambda: self._tfidf[1])

    def _random(self, rows: int, kind: str) -> Source:
        width, seed = self.config.random_width, self.config.seed
        made = functools.cache(lambda: stand_ins.random(rows, width, seed, kind))
        inputs = {"random": f"version {VERSIONS['random']}, {kind} {rows} x {width}, seed {seed}"}
        return self._made(f"random_{kind}", inputs, made)

    def _made(self, name: str, inputs: dict[str, str], make: Callable[[], np.ndarray]) -> Source:
        """A table that is made at each start; it is cached only if tables are memory-mapped."""
        if not self.cache.access.mapped:
            return Source(inputs, make)
        recipe = Recipe(name, 1, {}, inputs)
        return Source(inputs, lambda: self.cache.arrays((f"{name}.npy",), recipe, lambda: (make(),))[0])

    def _file(self, name: str, rows: int, kind: str) -> Source:
        path = self.files[name]
        # All rows were checked when the digest was computed; a memory-mapped file is not read again.
        how = embedding_files.open_embedding if self.cache.access.mapped else embedding_files.map_embedding
        read = functools.cache(lambda: how(path, rows, kind))
        return Source({path.name: self.file_digests[path]}, read)

    def _texts_V(self) -> Iterator[str]:
        if self.corpus.item_records is None:
            raise InputError(
                f"{self.corpus.folder}: has no texts or files for item embeddings; expected items.jsonl (a title for "
                f"each item) or item_emb.npy ({self.corpus.num_items} rows; user_emb.npy, {self.corpus.num_users} "
                "rows, is optional); prepare the data again with the items' file (for a table: --items_file=FILE "
                "--title_column=COLUMN --overwrite), or train without texts: --method=none"
            )
        return prompts.item_prompts(self.corpus, self.config.item_template, self.config.crop)

    @property
    def _tfidf_inputs(self) -> dict[str, str]:
        return {**self._tfidf_recipe.inputs, **settings_of(self._tfidf_recipe)}

    @functools.cached_property
    def _tfidf_recipe(self) -> Recipe:
        sha256 = hashlib.sha256()
        for number, text in enumerate(self._texts_V()):
            sha256.update((text if number == 0 else "\0" + text).encode(errors="surrogatepass"))
        inputs = {"texts": sha256.hexdigest(), "interactions": self.corpus.digest}
        return recipe_of("tfidf", {"width": self.config.tfidf_width, "seed": self.config.seed}, inputs)

    @functools.cached_property
    def _tfidf(self) -> tuple[np.ndarray, ...]:
        width, seed = self.config.tfidf_width, self.config.seed
        files = (f"tfidf_item_{width}.npy", f"tfidf_user_{width}.npy")
        build = lambda: tfidf.latent(self._texts_V(), self.corpus, width, seed)  # noqa: E731
        return self.cache.arrays(files, self._tfidf_recipe, build)


def semantics_of(corpus: Corpus, config: SemanticConfig, access: Access = Access()) -> Semantics:
    """Finds the user's files and the cache, and checks the files.

    Raises:
      InputError: a file is not valid, or `semantic.encoder` or `semantic.folder` asks for files that do not exist.
    """
    files = files_of(corpus, config)
    if config.encoder == "files" and "item_llm" not in files:
        raise InputError(
            f"{corpus.folder or corpus.name}: has no item_emb.npy, but semantic.encoder=files; expected "
            f"{corpus.num_items} rows of embeddings, row 0 = id 1; run `{commands.line('embed')} "
            f"--dataset={corpus.name}`, put the file there, or use semantic.encoder=tfidf"
        )
    if "item_llm" in files:
        manifest.check_usable(files["item_llm"].parent, config.crop, config.item_template)
    cache = cache_of(corpus, config, access)
    return Semantics(corpus, config, cache, files, cache.file_digests(_checks(corpus, files)))


def files_of(corpus: Corpus, config: SemanticConfig) -> dict[str, Path]:
    """The embedding files that the settings ask for, see `embedding_files.find`; none for an encoder without files.

    Raises:
      InputError: `semantic.folder` has no item embeddings, or is set although the encoder reads no files.
    """
    if config.encoder not in ("auto", "files") or corpus.folder is None:
        if config.folder:
            where = f"semantic.encoder={config.encoder}" if corpus.folder else f"{corpus.name}, which has no folder"
            raise InputError(
                f"semantic.folder={config.folder}: names embedding files, but {where} reads none; remove it, or "
                "change the encoder"
            )
        return {}
    found = embedding_files.find(corpus.folder / config.folder)
    if config.folder and "item_llm" not in found:
        raise InputError(
            f"semantic.folder={config.folder}: {corpus.folder / config.folder} has no item_emb.npy; expected a folder "
            f"of embeddings, as `{commands.line('embed')} --dataset={corpus.name} --data_dir=...` writes it"
        )
    return found


def cache_of(corpus: Corpus, config: SemanticConfig, access: Access = Access()) -> Cache:
    """The cache folder for tables of these interactions."""
    home = corpus.folder / "cache" if corpus.folder else user_folder(corpus.name)
    asked = [Path(config.cache_dir).expanduser()] if config.cache_dir else []
    return Cache(first_writable(*asked, home, user_folder(f"{corpus.name}-{corpus.digest[:12]}")), access)


def _checks(corpus: Corpus, files: Mapping[str, Path]) -> dict[Path, tuple[int, Callable[[], np.ndarray]]]:
    """For each file, the rows it must have, and a function that reads it and raises if it is not valid."""
    rows = {"items": corpus.num_items, "users": corpus.num_users}
    kinds = {"item_llm": "items", "item_pca": "items", "user_llm": "users", "similar_users": "users"}
    checks = {}
    for name, path in files.items():
        kind = kinds[name]
        if name == "similar_users":
            read = functools.partial(embedding_files.read_similar_users, path, rows[kind])
        else:
            command = embed_command.after_growth(corpus.name, path.parent)
            read = functools.partial(_read, corpus, name, path, rows[kind], kind, command)
        checks[path] = (rows[kind], read)
    return checks


def _read(corpus: Corpus, name: str, path: Path, rows: int, kind: str, command: str) -> np.ndarray:
    array = embedding_files.map_embedding(path, rows, kind, command)
    # launch.embed checked what it wrote, and may have written rows of zeros with --skip_failed.
    if name != "item_pca" and not manifest.describes(path.parent, path):
        file_checks.check(str(path), array, corpus, kind)
    return array


def settings_of(recipe: Recipe) -> dict[str, str]:
    """{function: its version and settings}, for `Source.inputs`."""
    return {recipe.made_by: f"version {recipe.version}, {dict(recipe.parameters)}"}


def recipe_of(function: str, parameters: Mapping[str, object], inputs: Mapping[str, str]) -> Recipe:
    """The recipe of a function in `VERSIONS`."""
    return Recipe(function, VERSIONS[function], parameters, inputs)
