"""Training: one function, read from top to bottom."""

from __future__ import annotations

import dataclasses
import json
import math
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from llmesr_jax import config as config_lib
from llmesr_jax import evaluate, inference, metrics, optimizer, recommender, state, steps
from llmesr_jax.checkpoint import Checkpoints
from llmesr_jax.contracts import knob
from llmesr_jax.data import batches
from llmesr_jax.errors import InputError
from llmesr_jax.experiment import Experiment, check_workdir, open_workdir, write_text
from llmesr_jax.interrupts import Interrupts
from llmesr_jax.logs import Log
from llmesr_jax.ranking import sample_candidates

_STOPPING = "stopping at the end of this window of steps"


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """How long and how fast a run learns, and what it watches."""

    epochs: int = knob(200, "most epochs", least=1)
    patience: int = knob(20, "a seed stops after this many epochs without a better validation", least=1)
    watch: str = knob("N@10", "the metric of the validation that decides which is better", choices=metrics.METRICS)
    watch_after: int = knob(0, "epochs before the first that is watched; until then the newest counts as best", least=0)
    learning_rate: float = knob(1e-3, "Adam's step size", least=1e-12)
    valid_protocol: str = knob(
        "sampled",
        "candidates of the validation watched for early stopping: sampled or full",
        choices=evaluate.PROTOCOLS,
    )
    seen_items: str = knob(
        "hidden",
        "in the full ranking a user's seen items are hidden; zero: they get the score 0, and the mask token is ranked "
        "(FAERec's release)",
        choices=("hidden", "zero"),
    )
    table_updates: str = knob(
        "dense",
        "item tables: dense, or touched: only rows of items in the step's sequences, targets and negatives (lazy Adam)",
        choices=("dense", "touched"),
    )
    eval_users: int = knob(0, "users in validation and test, drawn once for all seeds; 0: everybody", least=0)
    window: int = knob(50, "training steps between looks at the clock, the bar and the interrupt", least=1)
    progress: bool = knob(True, "show a progress bar where the output is a terminal")


@dataclasses.dataclass
class Progress:
    """Where a run stands; as JSON in every checkpoint. `active` lists the places of the seeds that still learn."""

    epoch: int  # finished epochs
    steps: int  # finished steps of the epoch under way
    active: list[int]
    best: list[float]  # per seed, the best validation value so far
    best_epoch: list[int]


def train(experiment: Experiment) -> dict[str, Any]:
    """Trains all seeds of an experiment together and tests each at its best epoch.

    Everything goes to the experiment's workdir: config.json, checkpoints/, metrics.jsonl, results.json, ranks.npz.
    A folder that holds an unfinished run of the same configuration is continued, to the same numbers.

    Returns: what results.json holds.
    Raises:
      InputError: the workdir belongs to another run; a loss is not finite (its term and steps are named).
      KeyboardInterrupt: after SIGINT or SIGTERM, once the state is saved.
    """
    settings: TrainConfig = config_lib.section(experiment.config, "train")
    model, plan, seeds = experiment.recommender, experiment.epochs.plan, experiment.seeds
    folder = Path(experiment.config.workdir)
    check_workdir(experiment)
    if (finished := _finished(folder, settings)) is not None:
        return finished
    adam, touched_only = optimizer.adam(settings.learning_rate), settings.table_updates == "touched"
    data = batches.interactions(experiment.corpus, plan.config.avoid)
    tables = {name: jnp.asarray(table) for name, table in experiment.tables.items()}
    example = steps.example_batch(plan, data, tables)

    def fresh():
        states = state.create(model, adam, tables, example, seeds)
        best = jax.tree.map(jnp.copy, states.params)  # buffers of its own: the state's are donated
        return {"state": states, "best": best, "sums": zero_sums(len(seeds), state.take(best, 0))}

    def zero_sums(count, params):
        return steps.zero_sums(model, params, tables, example, count)

    shapes = jax.eval_shape(fresh)  # finds what does not fit together before anything is written
    open_workdir(experiment)
    progress = Progress(0, 0, list(range(len(seeds))), [-math.inf] * len(seeds), [0] * len(seeds))
    with Checkpoints(folder / "checkpoints") as checkpoints, Interrupts(_STOPPING) as interrupts:
        if (restored := checkpoints.restore(lambda p: _like(shapes, p["active"]))) is not None:
            tree, progress = jax.tree.map(jnp.asarray, restored[0]), Progress(**restored[1])
            print(f"{folder}: continuing after epoch {progress.epoch}, step {progress.steps}", flush=True)
        else:
            tree = fresh()
        states, best, sums = tree["state"], tree["best"], tree["sums"]
        # The PCA only starts a table; nothing reads it again.
        tables = {name: table for name, table in tables.items() if name != "item_pca"}
        tables = recommender.in_precision(tables, experiment.config.precision)
        validate = Validation(experiment, "valid", tables)
        log = Log(folder, progress.epoch)
        compiled = False

        while progress.epoch < settings.epochs and progress.active:
            started, epoch = time.perf_counter(), progress.epoch + 1
            order = np.stack([experiment.epochs.order(seeds[i], epoch) for i in progress.active])
            total_steps = order.shape[1]
            groups = steps.groups(len(progress.active))
            states, sums = state.split(states, groups), state.split(sums, groups)
            with _bar(settings, epoch, total_steps, progress.steps) as bar:
                while progress.steps < total_steps:
                    window = order[:, progress.steps : progress.steps + settings.window]
                    count = window.shape[1]
                    window = np.pad(window, ((0, 0), (0, settings.window - count), (0, 0)), constant_values=-1)
                    for i, group in enumerate(groups):
                        arguments = (
                            states[i],
                            sums[i],
                            tables,
                            data,
                            window[group],
                            np.int32(count),
                            np.float32(epoch),
                        )
                        called = time.perf_counter()
                        states[i], sums[i] = steps.run_window(model, adam, plan, *arguments, touched_only=touched_only)
                        if not compiled:  # the call returns once it is compiled, before it has run
                            compiled, spent = True, time.perf_counter() - called
                            started += spent
                            print(f"compiled in {spent:.1f} s", flush=True)
                    _check_finite(state.join(sums), [seeds[i] for i in progress.active], epoch, progress.steps, count)
                    progress.steps += count
                    bar.update(count)
                    if interrupts.heard and progress.steps < total_steps:
                        break
            states, sums = state.join(states), state.join(sums)
            if interrupts.heard and progress.steps < total_steps:
                _save(checkpoints, experiment, progress, states, best, sums)
                _stop(checkpoints, folder, progress)

            losses = {name: np.asarray(value) / total_steps for name, value in sums.items()}
            values = [validate(state.take(states.params, j), seeds[i]) for j, i in enumerate(progress.active)]
            watched = [v[settings.valid_protocol]["overall"][settings.watch] for v in values]
            watching = epoch > settings.watch_after
            better = [j for j, i in enumerate(progress.active) if not watching or watched[j] > progress.best[i]]
            for j in better:
                progress.best[progress.active[j]] = watched[j] if watching else -math.inf
                progress.best_epoch[progress.active[j]] = epoch
            if better:
                best = state.put(best, [progress.active[j] for j in better], state.take(states.params, better))
            seconds = time.perf_counter() - started
            for j, i in enumerate(progress.active):
                line = {f"loss/{name}": float(value[j]) for name, value in losses.items()}
                valid = values[j][settings.valid_protocol]
                line |= {
                    f"valid/{g}/{m}": valid[g][m]
                    for g in ("overall", "tail_item", "tail_user")
                    for m in ("H@10", "N@10")
                }
                log.write(epoch, seeds[i], line, seconds)
            _say(epoch, losses, settings.watch, watched, progress, seeds, seconds)

            going_on = [j for j, i in enumerate(progress.active) if epoch - progress.best_epoch[i] < settings.patience]
            if len(going_on) < len(progress.active):
                for i in sorted(set(progress.active) - {progress.active[j] for j in going_on}):
                    best_value = f"{progress.best[i]:.4f}@{progress.best_epoch[i]}"
                    print(
                        f"seed {seeds[i]}: stopped, not better for train.patience={settings.patience} epochs (best "
                        f"{best_value})",
                        flush=True,
                    )
                states = state.take(states, going_on)
                progress.active = [progress.active[j] for j in going_on]
            progress.epoch, progress.steps = epoch, 0
            sums = zero_sums(len(progress.active), state.take(best, 0))
            _save(checkpoints, experiment, progress, states, best, sums)
            if interrupts.heard:
                _stop(checkpoints, folder, progress)
        checkpoints.wait()
        log.close()
    results = test(experiment, best, tables, validate)
    if progress.active and max(progress.best_epoch) == progress.epoch:
        print(f"still improving at epoch {progress.epoch}: a larger --epochs and the same command go on", flush=True)
    results |= {"best_epoch": progress.best_epoch, "epochs": progress.epoch, "early_stopped": not progress.active}
    write_text(folder / "results.json", json.dumps(results, indent=1) + "\n")
    return results


class Validation:
    """Metrics of one seed's parameters on one split; what does not depend on them is prepared once."""

    def __init__(self, experiment: Experiment, split: str, tables):
        self._experiment, self._tables = experiment, tables
        settings = config_lib.section(experiment.config, "train")
        self._seen = settings.seen_items
        self.protocols = (settings.valid_protocol,) if split == "valid" else evaluate.PROTOCOLS
        self.inputs = evaluate.inputs(experiment.corpus, split, settings.eval_users)
        corpus, rows = experiment.corpus, self.inputs.rows_E
        stops = {"valid": corpus.train_lengths_U, "test": corpus.lengths_U - 1}[split][rows]
        data = experiment.epochs.plan.config
        supervision = experiment.recommender.supervision
        self._histories = inference.histories(corpus, rows, stops, data, supervision)
        self._candidates: dict[int, np.ndarray] = {}

    def ranks(self, params, seed: int, protocols, coverage: bool):
        """(summary, per-user ranks) of `evaluate.evaluate`."""
        if seed not in self._candidates and "sampled" in protocols:
            self._candidates[seed] = sample_candidates(
                self.inputs.corpus, self.inputs.split, seed, rows_E=self.inputs.rows_E
            )
        model = self._experiment.recommender
        users = inference.user_vectors(model, params, self._tables, self._histories)
        items = inference.item_vectors(model, params, self._tables, self._seen == "zero")
        candidates = self._candidates.get(seed)
        return evaluate.evaluate(
            users,
            items,
            self.inputs,
            seed=seed,
            protocols=protocols,
            coverage=coverage,
            candidates=candidates,
            seen=self._seen,
        )

    def __call__(self, params, seed: int) -> dict[str, Any]:
        """The summary under the protocols of this split."""
        return self.ranks(params, seed, self.protocols, False)[0]


def test(experiment: Experiment, params_S: Any, tables: Any, validate: Validation) -> dict[str, Any]:
    """Both splits under both protocols, for every seed, as results.json wants it; ranks go to ranks.npz."""
    config, seeds = experiment.config, experiment.seeds
    results = {"config": json.loads(config_lib.to_json(config)), "seeds": list(seeds)}
    ranks = {}
    for split, runner in (("test", Validation(experiment, "test", tables)), ("valid", validate)):
        summaries = []
        for i, seed in enumerate(seeds):
            summary, per_user = runner.ranks(state.take(params_S, i), seed, evaluate.PROTOCOLS, True)
            summaries.append(summary)
            for protocol, (higher, tied) in per_user.items():
                ranks[f"{split}/{protocol}/{seed}"] = np.stack([higher, tied])
        ranks[f"{split}/users"] = runner.inputs.rows_E + 1
        results[split] = evaluate.stack(summaries)
    results["parameters"] = recommender.parameter_count(state.take(params_S, 0))
    partial = Path(config.workdir) / "ranks.npz.partial"
    with partial.open("wb") as file:
        np.savez_compressed(file, **ranks)
    partial.replace(Path(config.workdir) / "ranks.npz")
    return results


def _stop(checkpoints: Checkpoints, folder: Path, progress: Progress):
    """Waits for the checkpoint and ends the run."""
    checkpoints.wait()
    print(
        f"{folder}: saved after epoch {progress.epoch}, step {progress.steps}; the same command continues", flush=True
    )
    raise KeyboardInterrupt


def _finished(folder: Path, settings: TrainConfig) -> dict[str, Any] | None:
    """The results of a folder whose run has nothing left to do."""
    path = folder / "results.json"
    if not path.exists():
        return None
    try:
        results = json.loads(path.read_text())
        done = results["early_stopped"] or results["epochs"] >= settings.epochs
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise InputError(f"{path}: not readable ({error}); delete it, and the same command makes it again") from error
    if done:
        print(
            f"{folder}: finished before, nothing trained; delete it or name another --workdir to train again",
            flush=True,
        )
    return results if done else None


def _save(checkpoints, experiment, progress: Progress, states, best, sums) -> None:
    step = (progress.epoch * experiment.epochs.steps) + progress.steps
    checkpoints.save(step, {"state": states, "best": best, "sums": sums}, dataclasses.asdict(progress))


def _like(shapes, active: list[int]):
    """Shapes of a checkpoint in which only the `active` seeds still learn."""
    cut = lambda x: jax.ShapeDtypeStruct((len(active), *x.shape[1:]), x.dtype)  # noqa: E731
    return {**jax.tree.map(cut, shapes), "best": shapes["best"]}


def _check_finite(sums, seeds, epoch: int, start: int, count: int) -> None:
    for name, values in sums.items():
        for seed, value in zip(seeds, np.asarray(values)):
            if not np.isfinite(value) and name != "total":
                raise InputError(
                    f"seed {seed}: the loss's term {name!r} is not finite in steps {start + 1} to {start + count} of "
                    f"epoch {epoch}; the last checkpoint is kept; lower --config.train.learning_rate in a new --workdir"
                )


def _bar(settings: TrainConfig, epoch: int, total: int, start: int) -> tqdm:
    hide = None if settings.progress else True  # None: hidden where the output is no terminal
    return tqdm(total=total, initial=start, desc=f"epoch {epoch}", unit="step", leave=False, disable=hide)


def _say(epoch: int, losses, metric: str, watched, progress: Progress, seeds, seconds: float) -> None:
    terms = "  ".join(
        f"{name} {np.mean(value):.4f}" for name, value in losses.items() if name != "total" or len(losses) == 1
    )
    best = [
        "not watched yet" if value == -math.inf else f"best {value:.4f}@{at}"
        for value, at in zip(progress.best, progress.best_epoch)
    ]
    values = ", ".join(
        f"{f'{seeds[i]}: ' if len(seeds) > 1 else ''}{value:.4f} ({best[i]})"
        for i, value in zip(progress.active, watched)
    )
    print(f"epoch {epoch:3d}  {terms}  valid {metric} {values}  {seconds:.1f} s", flush=True)
