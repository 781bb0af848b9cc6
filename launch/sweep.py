"""Trains a grid of runs, from a file of configs/sweeps or from --grid, or searches for settings; prints a comparison.

    python -m launch.sweep --sweep=ablations --dataset=demo --epochs=20
    python -m launch.sweep --grid=llmesr.alpha=0.01,0.1,1 --grid=llmesr.similar=5,10
    python -m launch.sweep --sweep=overall --dataset=yelp,fashion,beauty
    python -m launch.sweep --search=train.learning_rate=1e-4..1e-2:log --trials=20

Each cell has its own run folder. The same command skips finished runs and continues interrupted ones.
"""

import dataclasses

from absl import flags

from llmesr_jax.core.errors import InputError
from llmesr_jax.core.knobs import knob

from . import cli, setting_flags

FLAGS = flags.FLAGS


@dataclasses.dataclass(frozen=True)
class Options:
    """Which runs to train."""

    sweep: str = knob("", "file of configs/sweeps, by its name, or the path of your own file (.py)")
    grid: tuple[str, ...] = knob(
        (), "setting=value,value: an axis of a grid; repeat the flag for the product of several axes"
    )
    search: tuple[str, ...] = knob(
        (), "setting=low..high, perhaps followed by :log, or setting=value,value: an axis of a search with optuna"
    )
    trials: int = knob(20, "total runs of a search, including those of earlier calls", least=1)
    dry_run: bool = knob(False, "list the cells and their state, and stop")


def define_flags() -> None:
    cli.define_flags()
    setting_flags.define(Options, repeated=("grid", "search"))


def main(argv, stop):
    from llmesr_jax.experiments import grid, search, sweep

    options = setting_flags.made(Options)
    if sum(map(bool, (options.sweep, options.grid, options.search))) != 1:
        raise InputError(
            f"no runs are named; expected one of --sweep, --grid and --search; known sweeps: {', '.join(grid.known())}"
        )
    if options.search:
        axes = search.space(options.search)
        build = lambda varied: cli.config_from_flags(varied, f"search-{','.join(axes)}")  # noqa: E731
        if options.dry_run:
            return print(search.states(build, axes))
        return print(search.run(build, axes, options.trials, stop=stop))
    plan = grid.read(options.sweep) if options.sweep else grid.from_flags(options.grid)
    plan, spread = grid.over_data_sets(plan, FLAGS.dataset or "", FLAGS.data_dir or "")
    cells = grid.cells(plan, lambda varied: cli.config_from_flags(varied, plan.name, plan.base, plan.varying, spread))
    cells = grid.placed(cells, lambda name, config: f"{config.workdir}/{name.replace(',', '/', 1) if spread else name}")
    if options.dry_run:
        return print(sweep.states(cells))
    outcomes = sweep.run(cells, stop=stop)
    print("\n" + sweep.table(cells, outcomes), flush=True)
    sweep.check(outcomes)


def run() -> None:
    """The command: reads the command line, and exits."""
    define_flags()
    cli.run(main)


if __name__ == "__main__":
    run()
