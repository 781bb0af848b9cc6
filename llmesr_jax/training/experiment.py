"""Builds everything that a run needs from its configuration, and checks it before anything is compiled."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from absl import logging

from llmesr_jax.core import commands, files
from llmesr_jax.core.axes import TABLES
from llmesr_jax.core.config_dict import ConfigDict
from llmesr_jax.core.errors import InputError
from llmesr_jax.core.spans import span
from llmesr_jax.data import corpus, raw_ids, reading, splits
from llmesr_jax.models import backbones, recommender
from llmesr_jax.models.types import Sizes
from llmesr_jax.ranking import evaluate
from llmesr_jax.ranking.candidates import SAMPLED
from llmesr_jax.semantic import tables as tables_lib
from llmesr_jax.semantic.mapped import Access
from llmesr_jax.training import (
    checkpoint,
    epoch_plan,
    mesh,
    method_tables,
    processes,
    run_lock,
    traced,
)
from llmesr_jax.training import config as config_lib

CONFIG_FILE = "config.json"
# The format of a run's files. In 2, some settings have other names and random numbers other streams than in 1.
FORMAT = 2
_CHANGES_SHOWN = 4
_SHOWN = 30  # seconds after which a shared disk must show a file that another machine has written


class Experiment(NamedTuple):
    """The parts of one run; `prepare` makes it.

    Attributes:
      config: the whole configuration.
      seeds: the seeds, which are trained together.
      corpus: the interactions, in host arrays.
      tables: {name: array} of the frozen tables on the host; of similar users only the N that the method uses.
      recipe: digest of what the tables were made from.
      content: digest of the tables.
      recommender: the model, as pure functions.
      epochs: the students, and the plan of rows.
    """

    config: ConfigDict
    seeds: tuple[int, ...]
    corpus: corpus.Corpus
    tables: dict[str, np.ndarray]
    recipe: str
    content: str
    recommender: recommender.Recommender
    epochs: epoch_plan.Epochs

    def describe(self) -> str:
        """One line: the model and the data."""
        c = self.corpus
        line = f"{self.config.method} on {self.config.backbone}, {c.name}: {c.num_users} users, {c.num_items} items, "
        line += f"{len(c.items)} interactions"
        line += _describe_split(c, config_lib.section(self.config, "train").seen_items)
        if self.tables.keys() & (TABLES.keys() - tables_lib.COUNTED):
            line += "; " + tables_lib.describe(c, config_lib.section(self.config, "semantic"))
        if alone := _without_teachers(self.tables):
            line += f"; {alone} users have an embedding of zeros, so they have no similar users and are not distilled"
        if c.num_items <= SAMPLED + 1:
            line += "; there are so few items that sampled ranks among all items outside a user's whole history"
        return line

    def identity(self) -> dict[str, str]:
        """Digests of what a run's results depend on besides its configuration.

        "interactions" is of the data, "recipe" of what the tables were made from, "tables" of their content, which
        another processor may round differently. "start" is of the run that this one starts from, if it exists.
        """
        found = {"interactions": self.corpus.digest, "recipe": self.recipe, "tables": self.content}
        start = self.config.start and checkpoint.fingerprint(Path(self.config.start, "checkpoints"))
        return found | ({"start": start} if start else {})


def _without_teachers(tables: Mapping[str, np.ndarray]) -> int:
    """The number of users without similar users."""
    return int((tables["similar_users"] < 0).any(axis=1).sum()) if "similar_users" in tables else 0


def _describe_split(users_items: corpus.Corpus, seen: str) -> str:
    """A line about the split, if it is unusual."""
    split, told = users_items.split, []
    if split.name != splits.LEAVE_ONE_OUT:
        tested = len(split.targets["test"].rows_E)
        told.append(f"split: {split.name.replace('_', ' ')}: {int(split.train_U.sum())} to train, {tested} tested")
    for part, count in split.without_input.items():
        told += [f"{count} {part} targets have no earlier interaction and are left out"] if count else []
    for part in split.targets:
        if seen == "hidden" and (count := int(users_items.repeated(part).sum())):
            told.append(f"{count} {part} targets are among the seen items, which are hidden, and are left out")
    return "".join(f"; {text}" for text in told)


def prepare(config: ConfigDict) -> Experiment:
    """Reads the data, makes or loads the tables, builds the model and plans the rows.

    Args:
      config: of `settings`.
    Raises:
      InputError: the configuration or a file is wrong.
    """
    section = lambda name: config_lib.section(config, name)  # noqa: E731
    mesh.parse(section("train").mesh)  # reports a wrong mesh before anything is read
    needs = recommender.needs(config.method, section(config.method))
    if needs.start and not config.start:
        raise _start_missing(config.method)
    with span("data"):
        users_items = reading.load(config.dataset, config.data_dir or None, section("data"))
        raw_ids.check(users_items)
    for part in ("test", "valid"):
        evaluate.check_repeats(users_items, part, section("train").seen_items)
    semantic = section("semantic")
    trained = int((users_items.train_lengths_U > 0).sum())
    kept = min(semantic.num_similar, trained - 1)
    if "similar_users" in needs.tables and kept < needs.similar:
        raise InputError(
            f"{users_items.name}: the method needs {needs.similar} similar users per user, but only {kept} are kept; "
            f"lower --config.{config.method}.similar, or raise --config.semantic.num_similar (below the "
            f"{trained} users who have training items)"
        )
    recommender.kinds(needs)  # reports names that are used twice before anything is computed
    with span("tables"):
        mapped = mesh.splits_rows(config, jax.device_count())
        tables, recipe = processes.first_alone(
            lambda verified: tables_lib.prepare(
                users_items,
                semantic,
                needs=needs.tables,
                pca_width=needs.pca_width,
                access=Access(mapped, verified),
            )
        )
    if "similar_users" in tables:
        if (kept := tables["similar_users"].shape[1]) < needs.similar:
            lower = f"lower --config.{config.method}.similar to {kept}, or " if kept else ""
            raise InputError(
                f"{users_items.name}: the method needs {needs.similar} similar users per user, but only {kept} exist: "
                "the embeddings of the other users are zero (their items have no text, or no known word); "
                f"{lower}provide user embeddings that are not zero (user_emb.npy, or launch.embed on items with texts)"
            )
        tables["similar_users"] = tables["similar_users"][:, : needs.similar]
    with span("tables"):
        own = processes.first_alone(lambda verified: method_tables.own(config, users_items))
    recipe = hashlib.sha256(f"{recipe} {own.recipe}".encode()).hexdigest() if own.arrays else recipe
    return assemble(config, users_items, tables | own.arrays, recipe)


def _start_missing(method: str) -> InputError:
    train = commands.line("train")
    return InputError(
        f"--start is missing: {method} starts from a run of another method; expected {train} --method=none,{method} "
        f"--start=@none, or {train} --method={method} --start=<folder of a run>"
    )


def assemble(
    config: ConfigDict, users_items: corpus.Corpus, tables: dict[str, np.ndarray], recipe: str = ""
) -> Experiment:
    """An experiment on existing interactions and tables: builds the model and plans the rows.

    Args:
      config: the whole configuration.
      users_items: the interactions.
      tables: those that the method needs, as `semantic.tables.prepare` makes them; `similar_users` has N columns.
      recipe: digest of what the tables were made from.
    Raises:
      InputError: inconsistent settings.
      ValueError: a table that the method needs is missing.
    """
    section = lambda name: config_lib.section(config, name)  # noqa: E731
    needs = recommender.needs(config.method, section(config.method))
    backbone = backbones.PLUGINS.load(config.backbone)
    supervision = backbone.supervision(section(config.backbone))
    data = section("data")
    if section("loss").all_items and section("train").table_updates == "touched":
        raise InputError(
            f"config: loss.ranking={config.loss.ranking} touches every item at each step; expected "
            "train.table_updates=dense, or loss.ranking=sampled_softmax"
        )
    if section("train").average and section("train").table_updates == "touched":
        raise InputError(
            "config: train.average moves every row at each step; expected train.table_updates=dense, or train.average=0"
        )
    needs_padding = backbone.needs_padding(section(config.backbone))
    if needs_padding and data.layout == "bucketed":
        raise InputError(
            f"config: data.layout=bucketed, but {config.backbone}'s settings process padding; expected padded or auto"
        )
    packs = not needs_padding and backbones.packs(backbone, section(config.backbone))
    if data.layout == "packed" and not packs:
        raise InputError(
            f"config: data.layout=packed, but {config.backbone}'s settings do not keep several sequences of one row "
            "apart; expected auto"
        )
    on_accelerator = jax.default_backend() != "cpu"
    if data.layout == "auto":
        rows = "packed" if packs and on_accelerator else "bucketed"
        data = dataclasses.replace(data, layout="padded" if needs_padding else rows)
    whole = {"auto": on_accelerator, "counted": False, "whole": True}[section("train").blocks]
    if missing := (needs.tables | needs.own.keys()) - tables.keys():
        raise ValueError(f"method {config.method!r} needs the tables {sorted(missing)}; found {sorted(tables)}")
    llm_width = tables["item_llm"].shape[1] if "item_llm" in tables else 0
    model = recommender.build(
        config.method,
        section(config.method),
        config.backbone,
        section(config.backbone),
        section("loss"),
        Sizes(users_items.num_items, data.max_len, llm_width, num_users=users_items.num_users, whole=whole),
        config.precision,
    )
    mask_share = getattr(section(config.backbone), "mask_share", 0.0) if supervision == "masked" else 0.0
    similar = tables.get("similar_users")
    epochs = epoch_plan.plan_epochs(users_items, data, supervision, mask_share, needs, similar, model.extra, whole)
    processes.check_same(tables_lib.sampled(tables), "tables")
    content = processes.of_first(lambda: tables_lib.digest(tables))
    return Experiment(config, config_lib.seed_list(config), users_items, tables, recipe, content, model, epochs)


def vary(experiment: Experiment, config: ConfigDict) -> Experiment:
    """The experiment with another folder, other seeds or other traced numbers; nothing is read or built again.

    Args:
      experiment: the original.
      config: the configuration of the new one, of the same program (`traced.program`).
    Raises:
      ValueError: it is of another program.
    """
    if traced.program(config) != traced.program(experiment.config):
        raise ValueError(f"{config.workdir} is of another program than {experiment.config.workdir}")
    return experiment._replace(config=config, seeds=config_lib.seed_list(config))


def check_workdir(experiment: Experiment) -> None:
    """Checks that the run's folder is free, or belongs to this configuration and these data; writes nothing.

    Raises:
      InputError: it belongs to another run, is not a run's folder, or cannot be written to.
    """
    folder = Path(experiment.config.workdir)
    if (folder / CONFIG_FILE).exists():
        stored, stored_identity = read_config(folder)
        of_data = identity_changes(stored_identity, experiment)
        changes = config_lib.difference(stored, experiment.config) + of_data
        if changes:
            more = f"; and {len(changes) - _CHANGES_SHOWN} more" if len(changes) > _CHANGES_SHOWN else ""
            hint = "the data or their embeddings have changed since then; " if of_data == changes else ""
            if changes == [change for change in of_data if change.startswith("start: ")]:
                hint = (
                    f"{experiment.config.start}, from which it started, was trained further or anew since then; the run "
                    "can still be evaluated and served; to train it anew, "
                )
            raise InputError(
                f"{folder}: belongs to another run ({'; '.join(changes[:_CHANGES_SHOWN])}{more}); {hint}"
                "choose another --workdir, or delete the folder"
            )
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not existing.is_dir():
        raise InputError(f"{existing}: is a file; expected a folder for the run; choose another --workdir")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise InputError(f"{existing}: cannot be written to; check its permissions, or choose another --workdir")
    others = (path for path in folder.iterdir() if path.name != run_lock.FILE) if existing == folder else ()
    if not (folder / CONFIG_FILE).exists() and any(others):
        below = next((path.parent.name for path in folder.glob(f"*/{CONFIG_FILE}")), None)
        hint = f"--workdir={folder / below} is one; with one method --workdir is the run itself; " if below else ""
        raise InputError(
            f"{folder}: already exists and is not the folder of a run (no {CONFIG_FILE}); {hint}choose another "
            "--workdir"
        )


def open_workdir(experiment: Experiment) -> Path:
    """Makes the run's folder, or uses an existing one that passes `check_workdir`; the first of several processes does.

    Raises:
      InputError: `check_workdir` refuses the folder, or another process does not see it.
    """
    folder = Path(experiment.config.workdir)
    processes.wait(f"{folder} is looked at")
    if processes.is_first():
        _open_workdir(experiment, folder)
    processes.wait(f"{folder} is made")
    deadline = time.monotonic() + _SHOWN
    while not (folder / CONFIG_FILE).exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    if processes.any_of(not (folder / CONFIG_FILE).exists()):
        raise InputError(
            f"{folder}: was made by the first process, and another does not see it; expected a --workdir on a disk that "
            "all machines share"
        )
    return folder


def _open_workdir(experiment: Experiment, folder: Path) -> None:
    check_workdir(experiment)
    folder.mkdir(parents=True, exist_ok=True)
    config = json.loads(config_lib.to_json(experiment.config))
    identity = experiment.identity()
    if (folder / CONFIG_FILE).exists():  # the run that this one started from may be away for a while
        identity = {key: value for key, value in read_config(folder)[1].items() if key == "start"} | identity
    text = {"format": FORMAT, "config": config, "data": identity, "jax": jax.__version__}
    files.write_text(folder / CONFIG_FILE, json.dumps(text, indent=2) + "\n")


def identity_changes(stored: Mapping[str, str], experiment: Experiment, start: bool = True) -> list[str]:
    """`name: old -> new` for each digest that differs from the stored one; empty if the data are the same.

    Tables of the same recipe are the same data even if they differ by rounding; a warning then says so.

    Args:
      stored: of config.json.
      experiment: of the run as it is now.
      start: whether the run to start from matters: not once the run is only read.
    """
    now = {name: value for name, value in experiment.identity().items() if start or name != "start"}
    changed = [name for name in now if stored.get(name) != now[name]]
    if changed == ["tables"]:
        logging.log_first_n(
            logging.WARNING,
            "%s: the tables were computed on another processor or by other library versions; they differ from the "
            "tables of the training only by rounding, so numbers may differ in their last digits",
            1,
            experiment.config.workdir,
        )
        return []
    return [f"{name}: {stored.get(name, '')[:8]} -> {now[name][:8]}" for name in changed]


def read_config(folder: Path) -> tuple[ConfigDict, dict[str, str]]:
    """The configuration and the data digests that a run's folder was made with.

    Raises:
      InputError: there is no readable config.json, or another version of this library wrote it.
    """
    path = Path(folder) / CONFIG_FILE
    try:
        stored = json.loads(path.read_text())
        config, identity = json.dumps(stored["config"]), {str(k): str(v) for k, v in stored["data"].items()}
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror}); expected the folder of a run, made by launch.train"
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path}: is not a run's configuration ({type(error).__name__}: {error}); expected one written by "
            "launch.train"
        ) from error
    if (found := stored.get("format", 1)) != FORMAT:
        raise InputError(
            f"{folder}: is a run of another version of llmesr-jax (format {found}, expected {FORMAT}); train again in "
            "a new --workdir, or read the run with the version that made it"
        )
    return config_lib.from_json(config, str(path)), identity
