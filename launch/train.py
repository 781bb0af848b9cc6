"""Trains one or several methods on a data set, and prints a comparison.

python -m launch.train --dataset=demo --method=none,llmesr

A seed whose loss is not finite is left out; the other seeds continue, and the exit status is then 2.
"""

import dataclasses

from llmesr_jax.core.knobs import knob

from . import cli, setting_flags, several


@dataclasses.dataclass(frozen=True)
class Options:
    """What to do with a finished run."""

    publish: bool = knob(
        False, "write a file for each finished run into leaderboard/: its settings, metrics and digests of its data"
    )


def define_flags() -> None:
    cli.define_flags()
    setting_flags.define(Options)
    setting_flags.define(several.Options)


def main(argv, stop):
    configs, options = cli.configs_from_flags(), setting_flags.made(several.Options)
    if options.processes > 1:
        return several.start(options.processes)
    with several.joined(options):
        train(configs, stop)


def train(configs, stop):
    """Trains each configuration and prints how they compare."""
    from llmesr_jax.core.errors import TrainingError
    from llmesr_jax.ranking import evaluate, metrics
    from llmesr_jax.training import (
        active_run,
        checkpoint,
        experiment,
        loop,
        processes,
        start,
    )

    publish = setting_flags.made(Options).publish and processes.is_first()  # only one of several processes writes
    experiments = [experiment.prepare(config) for config in configs]
    for one in experiments:  # all are checked before the first trains for hours
        experiment.check_workdir(one)
        source = next((other.config for other in experiments if other.config.workdir == one.config.start), None)
        if source is not None:
            active_run.check_start_stays(one.config, source)
        elif one.config.start and not checkpoint.begun(one.config.workdir):
            start.check(one.config.start, one.seeds)
    results, notes = {}, []
    for one, following in zip(experiments, [*experiments[1:], None]):
        print(one.describe(), flush=True)
        found = loop.train(one, stop=stop, following=following)
        results[one.config.method] = found["test"]
        if publish:
            from llmesr_jax.experiments import leaderboard

            print(f"{one.config.workdir}: published as {leaderboard.publish(one)}", flush=True)
        notes += [f"{one.config.workdir}: {note}"] if (note := active_run.left_out(found)) else []
    for protocol in metrics.PROTOCOLS:
        print("\n" + evaluate.results_table(results, protocol))
    if notes:
        print("\n" + "\n".join(notes), flush=True)
        raise TrainingError(
            f"{'; '.join(notes)}; to train all seeds, lower --config.train.learning_rate and use a new --workdir"
        )


def run() -> None:
    """The command: reads the command line, and exits."""
    define_flags()
    cli.run(main)


if __name__ == "__main__":
    run()
