"""Which encoder made the embeddings of texts, in words: TF-IDF is no LLM, and a reader should know."""

from __future__ import annotations

from llmesr_jax.core.errors import InputError
from llmesr_jax.data.corpus import Corpus
from llmesr_jax.experiments.report.rows import Row, Section
from llmesr_jax.models import methods
from llmesr_jax.semantic import embedding_files, manifest
from llmesr_jax.training import config as config_lib


def told(section: Section, corpus: Corpus | None) -> list[str]:
    """What each kind of embeddings in the section is, once; empty where no method uses any."""
    found = []
    for row in section.rows:
        if uses_texts(row):
            semantic = row.runs[0].config.semantic
            found.append(_of(semantic.encoder, semantic.crop, corpus))
    return list(dict.fromkeys(found))


def uses_texts(row: Row) -> bool:
    """Whether the method reads embeddings of texts, or starts from them."""
    config = row.runs[0].config
    needs = methods.PLUGINS.load(row.method).needs(config_lib.section(config, row.method))
    return bool(needs.tables & {"item_llm", "item_pca", "user_llm", "similar_users"})


def short(text: str) -> str:
    """The name alone, for a picture's title."""
    return text.partition(" (")[0]


def _of(encoder: str, crop: bool, corpus: Corpus | None) -> str:
    cropped = ", of prompts with name and categories only" if crop else ""
    if encoder == "random":
        return f"random vectors (a control, they say nothing of the texts){cropped}"
    files = embedding_files.find(corpus.folder) if corpus and corpus.folder and encoder != "tfidf" else {}
    if "item_llm" not in files:
        known = encoder == "tfidf" or corpus is not None
        return f"TF-IDF of the item texts (word counts, not an LLM){cropped}" if known else "not known without the data"
    try:
        made_by = (manifest.read(corpus.folder) or {"made_by": {}})["made_by"]
    except InputError:
        made_by = {}
    name = made_by.get("model") or made_by.get("encoder")
    if not name:
        return f"{files['item_llm'].name} (given vectors; the folder does not say which encoder made them){cropped}"
    if name == "tfidf":
        return f"TF-IDF of the item texts (word counts, not an LLM){cropped}"
    return f"{name} (by launch.embed --encoder={made_by.get('encoder')}){cropped}"
