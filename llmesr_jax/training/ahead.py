"""Compiles the programs of a run in a thread, while the run before it trains.

A training step of a small model leaves a part of the cores idle, and compiling needs seconds to minutes of one. So a
command with several runs tells `loop.train` which one follows.
"""

from __future__ import annotations

import math
from concurrent.futures import Future

import jax
import numpy as np

from llmesr_jax.models import kept
from llmesr_jax.training import active_run, mesh, state, steps, traced
from llmesr_jax.training import config as config_lib
from llmesr_jax.training.experiment import Experiment
from llmesr_jax.training.program import Program
from llmesr_jax.training.schema import TrainConfig
from llmesr_jax.training.streaming import Streamed
from llmesr_jax.training.validation import Validation

_MOST = 256 << 20  # bytes of the tables of a run that is prepared while another one has its own on the device


class _Begun:
    """Attributes:
    programs: {id of the experiment: (experiment, its program)}. (A dict in this module would be a part of
      `fingerprint.environment`.)
    """

    def __init__(self):
        self.programs: dict[int, tuple[Experiment, Future[Program]]] = {}


_BEGUN = _Begun()


def begin(experiment: Experiment) -> None:
    """Begins to prepare and compile what the run will need first, unless that would change what can be trained.

    Nothing is done for a finished run, where programs are not kept (`models.kept`), on several devices, and for tables so
    large that those of two runs may not fit in memory. Nor on an accelerator: its compiler tries kernels on the device, and
    would choose among them while another run keeps it busy. An error is raised by `program_of`.
    """
    several = jax.process_count() > 1 or mesh.shape_of(experiment.config, jax.device_count()) != mesh.Shape()
    large = sum(math.prod(x.shape) * x.dtype.itemsize for x in experiment.tables.values()) > _MOST
    busy = jax.default_backend() != "cpu"
    if kept.folder() is None or several or large or busy or active_run.finished(experiment.config) is not None:
        return
    _BEGUN.programs[id(experiment)] = experiment, kept.in_thread(lambda: _compiling(experiment))


def program_of(experiment: Experiment) -> Program:
    """`Program.of`, or the one that `begin` has made of this experiment.

    Raises:
      InputError: see `Program.of`.
    """
    if id(experiment) not in _BEGUN.programs:
        return Program.of(experiment)
    return _BEGUN.programs.pop(id(experiment))[1].result()


def _compiling(experiment: Experiment) -> Program:
    """The program of a run, whose compiling is begun."""
    program, config = Program.of(experiment), experiment.config
    if isinstance(program.data, Streamed):
        return program
    settings: TrainConfig = config_lib.section(config, "train")
    shapes = program.shapes(experiment.seeds)
    state.create_ahead(program.model, program.optimizer, program.tables, program.example, experiment.seeds)
    lanes = steps.lane_groups(len(experiment.seeds), settings.lanes)[0].stop
    of_group = lambda tree: jax.tree.map(lambda x: jax.ShapeDtypeStruct((lanes, *x.shape[1:]), x.dtype), tree)  # noqa: E731
    numbers = {key: np.full(lanes, value, np.float32) for key, value in traced.numbers(config).items()}
    order = np.zeros((lanes, program.width, experiment.epochs.plan.config.batch_size), np.int32)
    stepping = program.started(config.precision)
    args, options = stepping.window(of_group(shapes["state"]), of_group(shapes["sums"]), order, 1, numbers)
    steps.run_window.ahead(*args, **options)
    Validation(experiment, "valid", stepping.tables, stepping.data).compile_ahead(shapes["state"].params)
    return program
