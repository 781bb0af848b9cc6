"""BERT4Rec's settings; the cloze task itself stands with the batches."""

import dataclasses

import jax
import numpy as np
import tiny

from llmesr_jax.models.backbones import bert4rec, sasrec
from llmesr_jax.models.types import Sizes

SIZES = Sizes(num_items=9, max_len=4)


def test_it_is_sasrec_without_the_causal_mask():
    sequences = tiny.lay([[1, 2, 3], [5]], ((2, 4),))
    x = jax.random.normal(jax.random.key(0), (8, 4))
    ours = bert4rec.Backbone(bert4rec.Config(dropout=0.5), SIZES)
    theirs = sasrec.Backbone(sasrec.Config(causal=False), SIZES)
    variables = ours.init(jax.random.key(1), x, sequences, True)
    np.testing.assert_array_equal(
        ours.apply(variables, x, sequences, True), theirs.apply(variables, x, sequences, True)
    )


def test_the_papers_settings_are_the_defaults():
    assert dataclasses.asdict(bert4rec.Config()) == {
        "blocks": 2, "heads": 1, "dropout": 0.6, "mask_padding": True, "mask_share": 0.6
    }  # fmt: skip


def test_the_appended_mask_token_has_a_position_beyond_a_full_row():
    """max_len items and the token: position max_len + 1 is in the table."""
    sequences = tiny.lay([[1, 2, 3, 4, 10]], ((1, 5),))
    x = jax.random.normal(jax.random.key(0), (5, 4))
    module = bert4rec.Backbone(bert4rec.Config(), SIZES)
    table = module.init(jax.random.key(1), x, sequences, True, method="stem")["params"]["positions"]["table"]
    out = module.apply({"params": {"positions": {"table": table}}}, x, sequences, True, method="stem")
    np.testing.assert_allclose(out[4], x[4] * 2 + table[5], rtol=1e-6)
