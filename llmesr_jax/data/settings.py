"""The section `data` of the settings."""

from __future__ import annotations

import dataclasses

from llmesr_jax.core.knobs import knob
from llmesr_jax.data.splits import SplitConfig


@dataclasses.dataclass(frozen=True)
class DataConfig(SplitConfig):
    """How the data are split, and what a training sequence is."""

    batch_size: int = knob(128, "users per step", least=1)
    max_len: int = knob(200, "longest sequence, in items; older items are cut off", least=1)
    num_negatives: int = knob(
        1, "K, sampled negatives: of each position, or of the step where they are shared", least=1
    )
    negatives: str = knob(
        "own",
        "own: each position's, uniform over what the user has not seen in training; shared by all positions of a step: "
        "uniform | popularity (as often as items occur in training) | in_batch (the other positions' targets)",
        choices=("own", "uniform", "popularity", "in_batch"),
    )
    avoid: str = knob(
        "training",
        "what a position's own negative never is: one of the user's training items; history: one of all the user's "
        "items, while the mask token may be drawn (FAERec's release)",
        choices=("training", "history"),
    )
    layout: str = knob(
        "auto",
        "bucketed: rows of a few lengths; padded: all max_len, padding on the left; auto: bucketed if exact",
        choices=("auto", "bucketed", "padded"),
    )
    buckets: int = knob(10, "different row lengths in the bucketed layout", least=1)
    teacher_input: str = knob(
        "whole",
        "a similar user's sequence: whole training part, or input (without its last item)",
        choices=("whole", "input"),
    )
    prefixes: bool = knob(
        False,
        "every prefix of a training sequence is a sample of its own, for backbones that learn from the last position; "
        "False: one sample a user, the whole sequence",
    )
    single_item_students: bool = knob(False, "users with one training item are students too (preset release)")
