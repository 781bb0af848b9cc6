"""The real settings refuse what they cannot be, in one line that names the setting, the value and what is wanted."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from llmesr_jax.core import knobs
from llmesr_jax.core.errors import InputError
from llmesr_jax.training import schema


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("data.layout", "ragged", "data.layout='ragged' is not known; expected one of: auto, bucketed, packed, padded"),
        ("data.teacher_input", "all", "expected one of: whole, input"),
        ("data.batch_size", 0, "data.batch_size=0; expected at least 1"),
        ("data.max_len", -1, "data.max_len=-1; expected at least 1"),
        ("loss.ranking", "hinge", "loss.ranking='hinge' is not known; expected one of: bce, bpr, "),
        ("semantic.encoder", "word2vec", "expected one of: auto, files, tfidf, random"),
        ("semantic.num_similar", 0, "semantic.num_similar=0; expected at least 1"),
        ("sasrec.dropout", 1.0, "sasrec.dropout=1.0; expected at most 0.99"),
        ("sasrec.blocks", 0, "sasrec.blocks=0; expected at least 1"),
        ("gru4rec.layers", 0, "gru4rec.layers=0; expected at least 1"),
        ("bert4rec.mask_share", 7, "bert4rec.mask_share=7.0; expected at most 1"),
        ("none.width", -3, "none.width=-3; expected at least 1"),
        ("llmesr.alpha", -1, "llmesr.alpha=-1.0; expected at least 0"),
        ("llmesr.similar", 0, "llmesr.similar=0; expected at least 1"),
        ("llmesr.views", "all", "llmesr.views='all' is not known; expected one of: both, collaborative, semantic"),
        ("llmesr.adapter_layers", 3, "expected one of: 1, 2"),
        ("llmesr.distillation_reduction", "max", "expected one of: mean, sum"),
        ("train.valid_protocol", "half", "expected one of: full, sampled"),
    ],
)
def test_a_value_that_cannot_be_is_refused(key, value, message):
    with pytest.raises(InputError) as caught:
        schema.checked({key: value}, "here")
    assert str(caught.value).startswith(f"here: {key}")
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_every_default_is_allowed():
    defaults = {key: setting.default for key, setting in schema.settings().items()}
    assert schema.checked(defaults, "default") == defaults


def test_traced_numbers_cannot_be_read_outside_of_the_loss_but_0_stays_0():
    """What reads one there would compute with another run's number; 0 switches off, and is the same for all."""

    @dataclasses.dataclass(frozen=True)
    class Config:
        width: int = knobs.knob(4, "a width")
        weight: float = knobs.knob(0.5, "a weight", traced=True)
        other: float = knobs.knob(0.0, "another", traced=True)

    found = knobs.fixed(Config())
    assert (found.width, found.other, bool(found.weight)) == (4, 0.0, True)
    ways = (float, jnp.asarray, np.asarray, lambda x: 2 * x, lambda x: x < 1, lambda x: np.ones(2) + x)
    for read in (*ways, lambda x: jnp.ones(2) * x):
        with pytest.raises(InputError, match="weight is traced, .* declare the setting without traced=True"):
            read(found.weight)
    plain = Config(weight=0.0)
    assert knobs.fixed(plain) == plain
