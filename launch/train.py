"""Trains one or several methods on a data set, and prints how they compare.

python -m launch.train --dataset=demo --method=none,llmesr
"""

from launch import cli


def main(_):
    configs = cli.configs_from_flags()
    from llmesr_jax import evaluate, experiment, train

    experiments = [experiment.prepare(config) for config in configs]
    for one in experiments:  # all of them before the first trains for hours
        experiment.check_workdir(one)
    results = {}
    for one in experiments:
        print(f"{one.describe()}\n{one.config.workdir}: compiling, then training", flush=True)
        results[one.config.method] = train.train(one)["test"]
    for protocol in evaluate.PROTOCOLS:
        print("\n" + evaluate.results_table(results, protocol))


if __name__ == "__main__":
    cli.define_flags()
    cli.run(main)
