"""The command that made the embeddings of a folder, for messages after the data grew."""

from __future__ import annotations

import dataclasses
import shlex
from pathlib import Path

from llmesr_jax.core import commands
from llmesr_jax.data import known
from llmesr_jax.semantic import encoders, manifest


def after_growth(dataset: str, folder: Path) -> str:
    """The `launch.embed` command that made a folder's embeddings, with --append if the encoder has it.

    Without embeddings of launch.embed, the command with its default settings.

    Raises:
      InputError: the manifest is not readable.
    """
    flags = [f"--dataset={dataset}"]
    if not known.is_default(dataset, folder):
        flags.append(f"--data_dir={folder}")
    made = manifest.read(folder)
    if made and made["made_by"].get("encoder") in encoders.PLUGINS.names():
        flags += _flags(made)
    return " ".join([commands.line("embed"), *map(shlex.quote, flags)])


def _flags(made: dict) -> list[str]:
    """The settings that differ from their defaults."""
    made_by = made["made_by"]
    encoder = encoders.PLUGINS.load(made_by["encoder"])
    flags = [] if made_by["encoder"] == "tfidf" else [f"--encoder={made_by['encoder']}"]
    if made_by["encoder"] == "npy":
        return [*flags, *(f"--{name}=<all rows>" for name in ("item_file", "user_file") if name in made_by)]
    settings = {field.name: field.default for field in dataclasses.fields(encoder.Config)}
    given = {name: made_by[name] for name in settings if made_by.get(name) not in (None, settings[name])}
    if "base_url" in settings and "openai.com" not in (source := made.get("notes", {}).get("source", "")):
        given["base_url"] = source
    for name, separator in (("extra_query", "="), ("extra_header", ": ")):  # values may be secrets: they are not kept
        given |= {name: f"{one}{separator}<value>" for one in made.get("notes", {}).get(name, ())[:1]}
    cut = {name: made.get("notes", {}).get(name) for name in ("max_tokens", "tokenizer") if name in settings}
    given |= {name: value for name, value in cut.items() if value not in (None, settings[name])}
    given |= {name: made_by[name] for name in ("item_template", "user_template") if made_by.get(name)}
    flags += [f"--{name}={value}" for name, value in given.items() if value != ""]
    flags += ["--crop"] if made_by.get("crop") else []
    flags += ["--float16"] if made_by.get("dtype") == "float16" else []
    return [*flags, "--append"] if encoder.TAKES == "texts" else flags
