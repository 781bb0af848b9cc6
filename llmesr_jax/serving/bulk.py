"""Recommendations of a run or a bundle for many users, written to a file: the work of `launch.recommend`."""

from __future__ import annotations

import dataclasses
import hashlib
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np

from llmesr_jax.core import files, locks
from llmesr_jax.core.errors import InputError
from llmesr_jax.core.interrupts import Stop
from llmesr_jax.core.wording import counted
from llmesr_jax.data import raw_ids
from llmesr_jax.serving import (
    answers,
    approximate,
    bundle,
    folders,
    new_files,
    run,
)
from llmesr_jax.serving.histories import Columns, stage
from llmesr_jax.serving.model import ServedModel
from llmesr_jax.serving.options import Allowed, Options
from llmesr_jax.serving.programs import BATCHES
from llmesr_jax.serving.sources import OfCorpus, Slice, Source, of_users
from llmesr_jax.training import config as config_lib
from llmesr_jax.training import mesh as mesh_lib

_RECALL = 256  # users for whom approximate search is compared with exact search


@dataclasses.dataclass(frozen=True)
class Request:
    """The model, the users, and the file of recommendations.

    Attributes:
      out: file that ends in .parquet, .csv or .jsonl; with `shards`, a folder for a Parquet file of each shard.
      shards, shard: how many processes share the users, and the number of this one, from 0.
      mesh: the devices of this process that share its users: data:N, or auto; "" for one device.
      workdir, bundle: a run's folder, or a bundle; exactly one of them is set.
      data_dir, seed: of the run, see `run.load` and `Run.served`.
      users: file of raw ids of the run's users, one per line; "" for all.
      histories: file of histories of any users; "" for the run's users.
      columns: how the file of histories is read.
      new_items, new_embeddings: files of items that were added after training, see `new_files.with_items`.
      index: "exact", or approximate search by "faiss" or "usearch".
      allow, deny: files of raw item ids, one per line.
      options: of the lists; its `allow` and `deny` are filled in from the files.
      overwrite: replace `out`.
    """

    out: str
    workdir: str = ""
    bundle: str = ""
    data_dir: str = ""
    seed: int | None = None
    users: str = ""
    histories: str = ""
    columns: Columns = Columns()
    new_items: str = ""
    new_embeddings: str = ""
    index: str = "exact"
    allow: str = ""
    deny: str = ""
    options: Options = Options()
    overwrite: bool = False
    shards: int = 1
    shard: int | None = None
    mesh: str = ""

    @property
    def is_shard(self) -> bool:
        """Whether this process writes the file of a shard."""
        return self.shards > 1 or self.shard is not None


def recommend(request: Request, *, stop: Stop | None = None) -> str:
    """Writes `request.out`; the same request continues an interrupted one. Returns lines about the result.

    Raises:
      InputError: the request, the model or a file is wrong; then nothing is written.
    """
    _check(request)
    devices = _devices(request.mesh)
    out = _of_shard(request) if request.is_shard else Path(request.out)
    answers.kind_of(out)
    exists = out.exists() and not request.overwrite
    if exists and not answers.parts_left(out):
        raise answers.already_there(out)
    started = time.perf_counter()
    lists = {name: _ids(path, f"--{name}") for name in ("users", "allow", "deny") if (path := getattr(request, name))}
    if request.histories and not Path(request.histories).is_file():
        raise InputError(f"--histories={request.histories}: no such file; expected a CSV, JSON lines or Parquet file")
    found = None if request.bundle else run.load(request.workdir, request.data_dir)
    model = bundle.load(request.bundle) if found is None else found.served(request.seed)
    model = dataclasses.replace(model, devices=devices)
    if request.new_items:
        model = new_files.with_items(model, request.new_items, request.new_embeddings)
    said: list[str] = []
    wanted = lists.pop("users", None)
    said += filter(None, (_unknown(model, ids, f"--{name}={getattr(request, name)}") for name, ids in lists.items()))
    options, allowed = model.check(dataclasses.replace(request.options, **lists))
    if found is not None:
        said += _hidden_although_trained(config_lib.section(found.experiment.config, "train").seen_items, options)
    if not request.histories:
        raw_users, corpus = raw_ids.every(found.experiment.corpus, "user"), found.experiment.corpus
        source: Source = OfCorpus(corpus, raw_users)
        if wanted is not None:
            source, absent = of_users(corpus, raw_users, wanted, f"--users={request.users}")
            said += [absent] if absent else []
    identity = _identity(request, model)
    if exists and answers.cleaned_up(out, identity):
        return f"{out}: is complete; the same command was stopped before, while it deleted its parts"
    work = answers.workplace(out, identity, request.overwrite)
    held = locks.take(
        work / "lock", f"--out={out}: another process is writing it; wait for it, or choose another --out"
    )
    try:
        if request.histories:
            source = stage(Path(request.histories), request.columns, model.catalogue, work)
        if request.is_shard:
            source = _share(source, request)
        if request.index != "exact":
            exact, model = model, model.with_index(request.index)
            said.append(_recall(exact, model, source, options, allowed))
        summary = answers.write(model, source, out, work, options, allowed, stop=stop)
    except InputError:
        if not any(work.glob("[0-9]*.json")):  # nothing that could be continued
            answers.discard(work)
        raise
    finally:
        held.release()
    seconds = time.perf_counter() - started
    done = f"{out}: top {options.k} for {counted(summary.users, 'user')}; {seconds:.1f} s"
    return "\n".join([done, *said, *summary.remarks(options.k)])


def _devices(mesh: str) -> tuple[Any, ...]:
    """The devices of `Request.mesh`; `auto` is as many as have work.

    Raises:
      InputError: it is not a mesh, has lanes, or has more devices than have work or than there are.
    """
    found, wanted, most = jax.local_devices(), mesh_lib.parse(mesh), -(-answers.PART // BATCHES[-1])
    if wanted is None:
        return tuple(found[:most])
    if wanted.lane > 1:
        raise InputError(
            f"--mesh={mesh}: one seed recommends, so there are no lanes; expected data:N for N devices that share the "
            "users, or auto"
        )
    if wanted.data > most:
        raise InputError(
            f"--mesh={mesh}: only {most} batches of users are ranked at a time; expected at most data:{most}; for more "
            "devices, use several processes with --shards"
        )
    mesh_lib.check_there_are(wanted, mesh, len(found))
    return tuple(found[: wanted.data])


def _hidden_although_trained(seen_items: str, options: Options) -> list[str]:
    """A line if the run's `train.seen_items` ranks items of the history too, but the lists leave them out."""
    if seen_items != "shown" or not options.hide_seen:
        return []
    return [
        "items of a user's own history are left out; this run was trained to rank them too: --seen=shown lists them"
    ]


def _of_shard(request: Request) -> Path:
    """The file of a shard, in the folder `request.out`, which is made if it does not exist.

    Raises:
      InputError: there is no such shard, or the folder has files of another number of shards.
    """
    if request.shard is None or not 0 <= request.shard < request.shards:
        raise InputError(
            f"--shards={request.shards} and --shard={request.shard}: expected --shard=0 to --shard={request.shards - 1}, "
            "each by a process of its own"
        )
    folder, ending = Path(request.out), f"-of-{request.shards:05d}.parquet"
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--out={folder}: is a file; with --shards, expected a folder for a file of each shard")
    if others := [path.name for path in folder.glob("part-*-of-*.parquet*") if ending not in path.name]:
        raise InputError(
            f"--out={folder}: has parts of another number of shards ({min(others)}); choose another folder, or delete them"
        )
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"part-{request.shard:05d}{ending}"


def _share(source: Source, request: Request) -> Source:
    """The users of the shard: whole parts, so that users are ranked in the same batches as without shards.

    Raises:
      InputError: there are fewer parts than shards.
    """
    parts = -(-source.count // answers.PART)
    if parts < request.shards:
        raise InputError(
            f"--shards={request.shards}: there are {counted(source.count, 'user')}, ranked {answers.PART:,} at a time; "
            f"expected at most {counted(parts, 'shard')}"
        )
    ends = [answers.PART * (parts * number // request.shards) for number in (request.shard, request.shard + 1)]
    return Slice(source, ends[0], min(ends[1], source.count))


def _recall(exact: ServedModel, model: ServedModel, source: Source, options: Options, allowed: Allowed) -> str:
    """A line with the share of the items of exact lists that are in the approximate lists, for some users."""
    histories = [ids for ids in source.batch(0, _RECALL).histories if len(ids)]
    if not histories:
        return f"recall of exact search: not measured, because none of the first {_RECALL} users has a known item"
    found, wanted = (one.rank(histories, options, allowed).rows_BxK for one in (model, exact))
    return f"recall {approximate.recall(found, wanted):.4f} of exact search, by {counted(len(histories), 'user')}"


def _check(request: Request) -> None:
    if bool(request.workdir) == bool(request.bundle):
        what = "both are set" if request.bundle else "both are missing"
        raise InputError(
            f"--workdir and --bundle: {what}; expected one of them: the folder of a run, made by launch.train, or "
            "a bundle, made by launch.export"
        )
    if bool(request.new_items) != bool(request.new_embeddings):
        raise InputError("--new_items and --new_embeddings: one of them is missing; expected both, or neither")
    if not request.out:
        raise InputError("--out is missing; expected a file for the recommendations, such as --out=recs.parquet")
    if request.bundle:
        folders.check_bundle(Path(request.bundle))
    else:
        folders.check_run(Path(request.workdir))
    if request.users and request.histories:
        raise InputError(
            "--users and --histories: both are set; expected one of them, or neither for all users of the run"
        )
    if request.bundle and request.seed is not None:
        raise InputError("--seed: a bundle has one seed; run without --seed, or set --workdir to the run")
    if request.bundle and not request.histories:
        raise InputError(
            "--bundle: a bundle has no users; expected --histories, a file of histories, or --workdir in place of "
            "--bundle"
        )


def _unknown(model: ServedModel, ids: list[str], where: str) -> str:
    """A line about the raw item ids of a list that are not in the catalogue; "" if all are.

    Raises:
      InputError: none of them is.
    """
    known, unknown = model.catalogue.known(ids, where)
    if not len(known):
        raise model.catalogue.unlike(where, counted(unknown, "id"), ids[0])
    return f"{where}: {unknown:,} of its {counted(len(ids), 'id')} not in the catalogue" if unknown else ""


def _ids(path: str, flag: str) -> list[str]:
    """The raw ids in a file, one per line."""
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise InputError(
            f"{flag}={path}: cannot be read ({reason}); expected a text file with one raw id per line"
        ) from error
    found = [line.strip() for line in lines if line.strip()]
    if not found:
        raise InputError(f"{flag}={path}: has no ids; expected one raw id per line")
    return found


def _identity(request: Request, model: ServedModel) -> dict[str, object]:
    """What the lists depend on: two requests with the same identity have the same lists."""
    sha256 = hashlib.sha256(np.ascontiguousarray(model.items_VxE))
    sha256.update(np.ascontiguousarray(model.views_WxVxD))
    found = dataclasses.asdict(request)
    for name in ("users", "histories", "allow", "deny", "new_items", "new_embeddings"):
        found[name] = files.sha256(Path(found[name])) if found[name] else ""
    left_out = ("out", "workdir", "bundle", "data_dir", "seed", "overwrite", "mesh")
    left_out += () if request.is_shard else ("shards", "shard")
    return {"model": sha256.hexdigest(), "users of a part": answers.PART} | {
        name: value for name, value in found.items() if name not in left_out
    }
