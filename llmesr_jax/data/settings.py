"""The section `data` of the settings."""

from __future__ import annotations

import dataclasses

from llmesr_jax.core.knobs import knob
from llmesr_jax.data.splits import SplitConfig


@dataclasses.dataclass(frozen=True)
class DataConfig(SplitConfig):
    """The split of the data, and the form of a training sequence."""

    batch_size: int = knob(128, "users per step", least=1)
    max_len: int = knob(200, "maximum length of a sequence, in items; older items are cut off", least=1)
    num_negatives: int = knob(
        1, "K, the number of sampled negatives: per position, or per step if they are shared", least=1
    )
    negatives: str = knob(
        "own",
        "own: for each position, uniform over items that the user has not seen in training; shared by all positions "
        "of a step: uniform | popularity (as often as items occur in training) | in_batch (the other positions' "
        "targets)",
        choices=("own", "uniform", "popularity", "in_batch"),
    )
    avoid: str = knob(
        "training",
        "which items own negatives exclude: the user's training items; history: all the user's "
        "items, but the mask token may be drawn (as in FAERec's release)",
        choices=("training", "history"),
    )
    layout: str = knob(
        "auto",
        "bucketed: rows of a few lengths; packed: several sequences in a row, all rows of one length; padded: all rows of "
        "max_len, padded on the left; auto: bucketed if that is exact, and on an accelerator packed, if the backbone can "
        "keep the sequences of a row apart",
        choices=("auto", "bucketed", "packed", "padded"),
    )
    buckets: int = knob(10, "number of row lengths in the bucketed layout", least=1)
    teacher_input: str = knob(
        "whole",
        "sequence of a similar user, from whom llmesr distils: the whole training part, or the input (without its last "
        "item)",
        choices=("whole", "input"),
    )
    prefixes: bool = knob(
        False,
        "every prefix of a training sequence is one sample, with a loss at its last position only; "
        "False: one sample per user, the whole sequence, with a loss wherever the backbone allows one",
    )
    single_item_students: bool = knob(
        False, "train also on users with one training item, whose input is empty (as in the preset release)"
    )
