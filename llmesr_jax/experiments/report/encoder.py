"""The encoder of the embeddings, in words, because readers should know if it is TF-IDF, which is not an LLM."""

from __future__ import annotations

from llmesr_jax.core.errors import InputError
from llmesr_jax.data.corpus import Corpus
from llmesr_jax.experiments.report.rows import Row, Section
from llmesr_jax.models import methods
from llmesr_jax.semantic import manifest, sources
from llmesr_jax.semantic.sources import SemanticConfig
from llmesr_jax.training import config as config_lib


def told(section: Section, corpus: Corpus | None) -> list[str]:
    """A description of each kind of embeddings in the section, once; empty if no method uses any."""
    found = []
    for row in section.rows:
        if uses_texts(row):
            found.append(_of(config_lib.section(row.runs[0].config, "semantic"), corpus))
    return list(dict.fromkeys(found))


def uses_texts(row: Row) -> bool:
    """Whether the method reads embeddings of texts, or starts from them."""
    config = row.runs[0].config
    needs = methods.PLUGINS.load(row.method).needs(config_lib.section(config, row.method))
    return bool(needs.tables & {"item_llm", "item_pca", "user_llm", "similar_users"})


def short(text: str) -> str:
    """The name of an encoder without its explanation, for a picture's title."""
    return text.partition(" (")[0]


def _of(config: SemanticConfig, corpus: Corpus | None) -> str:
    cropped = ", of prompts with name and categories only" if config.crop else ""
    tfidf = f"TF-IDF of the item texts (word counts, not an LLM){cropped}"
    if config.encoder == "random":
        return "random vectors (a control: they do not depend on the texts)"
    if config.encoder == "tfidf":
        return tfidf
    if corpus is None:
        return "an unknown encoder (the data were not found)"
    try:
        files = sources.files_of(corpus, config)
        made_by = (manifest.read(files["item_llm"].parent) or {"made_by": {}})["made_by"] if files else {}
    except (InputError, KeyError):
        return "an unknown encoder (the embedding files were not found)"
    if "item_llm" not in files or made_by.get("encoder") == "tfidf":
        return tfidf
    cropped = ", of prompts with name and categories only" if made_by.get("crop") else cropped
    if name := made_by.get("model") or made_by.get("encoder"):
        return f"{name} (launch.embed --encoder={made_by.get('encoder')}){cropped}"
    return (
        f"existing vectors ({files['item_llm'].name}; the encoder is unknown, because there is no embeddings.json)"
        f"{cropped}"
    )
