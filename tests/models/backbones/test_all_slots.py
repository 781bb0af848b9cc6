"""Outputs at every slot, for methods that ask an encoder of the last position for them (`Needs.all_slots`)."""

import dataclasses

import encoders
import jax
import numpy as np
import pytest
import tiny

from llmesr_jax.models import backbones, types

pytestmark = pytest.mark.slow

SIZES = types.Sizes(30, 9)
ROWS = [[1, 2, 3, 4, 5], [6, 7], [8], []]
SETTINGS = {name: tiny.plugin_config("backbone", name, causal=False) for name in backbones.PLUGINS.names()}
OF_THE_LAST = [name for name, config in SETTINGS.items() if backbones.PLUGINS.load(name).supervision(config) == "last"]


@pytest.mark.parametrize("backbone", OF_THE_LAST)
def test_every_slot_with_an_item_has_an_output_and_newest_ones_stay_as_they_are(backbone):
    module = backbones.PLUGINS.load(backbone)
    plain, every = (
        module.Backbone(SETTINGS[backbone], sizes) for sizes in (SIZES, dataclasses.replace(SIZES, all_slots=True))
    )
    sequences = tiny.lay(ROWS, ((4, 6),))
    x_TxD = jax.random.normal(jax.random.key(1), (24, 4))
    params = encoders.init(plain, x_TxD, sequences, 0)
    assert jax.tree.map(np.shape, params) == jax.tree.map(np.shape, encoders.init(every, x_TxD, sequences, 0))
    # Noise, as some parameters start where an output that is left out and one that is there are the same.
    params = jax.tree.map(lambda x: x + 0.3 * jax.random.normal(jax.random.key(x.size), x.shape), params)
    found = np.asarray(encoders.encode(every, params, x_TxD, sequences))
    real, last = np.asarray(sequences.valid_T), np.asarray(sequences.last_R)[:3]
    assert (np.abs(found[real]).max(axis=1) > 1e-3).all()
    assert len(np.unique(found[real].round(6), axis=0)) == real.sum()
    np.testing.assert_allclose(found[last], encoders.encode(plain, params, x_TxD, sequences)[last], atol=1e-6)
    alone = encoders.encode(every, params, x_TxD, sequences, last_only=True)
    np.testing.assert_allclose(found[last], alone[:3], atol=1e-6)
