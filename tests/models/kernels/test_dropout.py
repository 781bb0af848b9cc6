"""Masks of dropout: their share, whom they belong to, and that no two of them are alike."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from llmesr_jax.models.kernels import dropout
from llmesr_jax.models.types import Sequences

KEY = jax.random.key(7)
ROWS = [[3, 1, 2, 5, 9], [4, 4, 1], [2, 6], [7]]


drop_weights, drop_left_out = (
    jax.jit(function, static_argnames=("rate", "heads")) for function in (dropout.drop_weights, dropout.drop_left_out)
)


def numbers(*values):
    return jnp.array(values, jnp.int32)


def mask(rate, owners, indices, channels, key=KEY):
    """bool (owners, indices, channels)."""
    owner, index = jnp.arange(owners, dtype=jnp.int32)[:, None], jnp.arange(indices, dtype=jnp.int32)[None]
    return np.asarray(dropout.keeps(key, rate, [(owner, index, channels)])[0])


@pytest.mark.parametrize(
    "key, owner, second, words",
    [
        ((0, 0), 0, 0, (0x6B200159, 0x99BA4EFE)),
        ((0x13198A2E, 0x03707344), 0x243F6A88, 0x85A308D3, (0xC4923A9C, 0x483DF7A0)),
    ],
)
def test_an_entry_is_a_bit_of_threefry(key, owner, second, words):
    """Known answers of Random123: a position's 64 channels are the two words, lowest bit first; 0 is kept."""
    index, draw = second >> 16, second & 0xFFFF
    given = [(jnp.uint32(owner)[None], jnp.uint32(index)[None], 64 * (draw + 1))]
    (kept,) = dropout.keeps(jnp.array(key, jnp.uint32), 0.5, given)
    wanted = [word >> bit & 1 == 0 for word in words for bit in range(32)]
    np.testing.assert_array_equal(kept[0, -64:], wanted)


@pytest.mark.parametrize("rate, bits", [(0.5, 1), (0.25, 2), (0.125, 4), (0.2, 16), (0.6, 16), (0.01, 16)])
def test_the_rate_is_met_everywhere(rate, bits):
    """Over all entries, and for each owner, position and channel."""
    kept = mask(rate, 60, 70, 80)
    rounded = round((1 - rate) * 2**bits) / 2**bits
    for axes in ((), (0,), (1,), (2,)):
        share = kept.mean(axis=tuple({0, 1, 2} - set(axes)))
        deviation = np.sqrt(rounded * (1 - rounded) / (kept.size / np.size(share)))
        assert np.abs(share - rounded).max() < 4.5 * deviation


@pytest.mark.parametrize("rate", [0.5, 0.25, 0.4])
def test_owners_positions_channels_and_layers_are_independent(rate):
    """No mask is another's, and no pair correlates more than chance allows."""
    kept = mask(rate, 40, 40, 200).astype(float)
    other_layer = mask(rate, 40, 40, 200, jax.random.key(8))
    assert (
        len({row.tobytes() for row in [*kept.reshape(1600, 200), *other_layer.reshape(1600, 200).astype(float)]})
        == 3200
    )
    for axis, x in itertools.product(range(3), (kept, np.stack([kept[0], other_layer[0]]))):
        rows = np.moveaxis(x, axis, 0).reshape(x.shape[axis], -1)
        found = np.corrcoef(rows)[np.triu_indices(len(rows), 1)]
        assert np.abs(found).max() < 5.5 / np.sqrt(rows.shape[1])
    flat = kept.ravel()
    for lag in (1, 2, 16, 31, 32, 33, 64, 200, 8000):
        assert abs(np.corrcoef(flat[:-lag], flat[lag:])[0, 1]) < 5 / np.sqrt(len(flat))


@pytest.mark.parametrize("rate", [0.5, 0.4])
def test_an_entry_depends_on_nothing_else_that_is_drawn(rate):
    """Fewer channels, another order, one position alone, several parts together, keys side by side."""
    whole = mask(rate, 5, 6, 150)
    np.testing.assert_array_equal(mask(rate, 5, 6, 7), whole[..., :7])
    owner, index = numbers(4, 0), numbers(2, 5)
    parts = [(owner, index, 70), (numbers(3)[:, None], numbers(0, 1)[None], 150)]
    first, second = dropout.keeps(KEY, rate, parts)
    np.testing.assert_array_equal(first, whole[owner, index, :70])
    np.testing.assert_array_equal(second, whole[3:4, :2])
    keys = jax.random.split(KEY, 3)
    several = jax.vmap(lambda key: dropout.keeps(key, rate, parts)[1])(keys)
    for key, one in zip(keys, several):
        np.testing.assert_array_equal(one, dropout.keeps(key, rate, parts)[1])


@functools.partial(jax.jit, static_argnames="rate")
def _dropped(x, sequences, rate):
    return dropout.Dropout(rate).apply({}, x, sequences, False, rngs={"dropout": KEY})


def dropped(x, sequences, rate=0.5):
    return np.asarray(_dropped(x, sequences, rate))


def by_row(x_T, sequences):
    """What stands with a row's items, oldest first."""
    return [x_T[..., slots, :] for slots in tiny.slots(sequences)]


def layouts() -> list[Sequences]:
    """The same four sequences at the same places in rows of two lengths, of one length, and padded on the left."""
    place = numbers(2, 0, 3, 1)
    short = tiny.lay(ROWS, ((2, 6), (2, 2))).replace(place_R=place)
    wide, left = (tiny.lay(ROWS, ((4, 9),), left=left).replace(place_R=place) for left in (False, True))
    other_order = tiny.lay(ROWS[::-1], ((4, 7),)).replace(place_R=place[::-1])
    return [short, short.replace(items_first=True), wide, left, other_order]


@pytest.mark.parametrize("lead", [(), (2,)])
def test_masks_of_slots_follow_place_and_position(lead):
    sequences = layouts()
    masks = [by_row(dropped(jnp.ones((*lead, len(s.items_T), 70)), s), s) for s in sequences]
    masks[-1].reverse()
    for other in masks[1:]:
        for ours, wanted in zip(other, masks[0], strict=True):
            np.testing.assert_array_equal(ours, wanted)
    newest = dropped(jnp.ones((*lead, 4, 70)), sequences[0])
    for row, wanted in enumerate(masks[0]):
        np.testing.assert_array_equal(newest[..., row, :], wanted[..., -1, :])
    assert len({row.tobytes() for rows in masks[0] for row in rows.reshape(-1, 70)}) == 11 * (2 if lead else 1)
    moved = sequences[0].replace(place_R=numbers(2, 0, 1, 3))
    third, fourth = by_row(dropped(jnp.ones((*lead, len(moved.items_T), 70)), moved), moved)[2:]
    np.testing.assert_array_equal(fourth[..., 0, :], masks[0][2][..., 0, :])
    assert (third[..., 0, :] != masks[0][2][..., 0, :]).any()


def test_empty_slots_have_masks_of_their_own():
    """A backbone may give padding vectors."""
    for left in (False, True):
        sequences = tiny.lay(ROWS, ((4, 9),), left=left)
        rows = dropped(jnp.ones((36, 70)), sequences)
        assert len({row.tobytes() for row in rows}) == 36
        np.testing.assert_array_equal(np.sort(sequences.index_T.reshape(4, 9), axis=1), [range(9)] * 4)


def test_kept_entries_are_scaled_and_dropout_can_be_off():
    sequences = tiny.lay(ROWS, ((4, 6),))
    x = jnp.ones((24, 300))
    np.testing.assert_allclose(np.unique(dropped(x, sequences, 0.25)), [0, 4 / 3], rtol=1e-6)
    np.testing.assert_array_equal(dropout.Dropout(0.25).apply({}, x, sequences, True), x)
    np.testing.assert_array_equal(dropout.Dropout(0.0).apply({}, x, sequences, False), x)


def weights_of(sequences, lead, heads, last_only):
    by_head = (heads,) if heads > 1 else ()
    return [jnp.ones((*lead, rows, *by_head, 1 if last_only else length, length)) for rows, length in sequences.buckets]


def weight_masks(sequences, lead, heads, rate, last_only=False):
    """For each row, (..., [heads,] queries, keys) of its items, oldest first."""
    groups = drop_weights(weights_of(sequences, lead, heads, last_only), KEY, rate, sequences, heads)
    out, slots = [], tiny.slots(sequences)
    starts = np.cumsum([0, *(length for rows, length in sequences.buckets for _ in range(rows))])
    for group in groups:
        for row in np.moveaxis(np.asarray(group), len(lead), 0):
            at = slots[len(out)] - starts[len(out)]
            out.append(row[..., at] if last_only else row[..., at[:, None], at])
    return out


@pytest.mark.parametrize("rate", [0.5, 0.4])
@pytest.mark.parametrize("lead, heads", [((), 1), ((2,), 3)])
def test_masks_of_attention_weights_follow_both_positions(lead, heads, rate):
    sequences = layouts()
    masks = [weight_masks(s, lead, heads, rate) for s in sequences]
    masks[-1].reverse()
    for other in masks[1:]:
        for ours, wanted in zip(other, masks[0], strict=True):
            np.testing.assert_array_equal(ours, wanted)
    for s in sequences[:4]:
        for ours, wanted in zip(weight_masks(s, lead, heads, rate, last_only=True), masks[0], strict=True):
            np.testing.assert_array_equal(ours[..., 0, :], wanted[..., -1, :])


def test_views_and_heads_have_weights_masks_of_their_own():
    (row,) = weight_masks(tiny.lay([list(range(1, 41))], ((1, 40),)), (2,), 3, 0.5)
    masks = (row.reshape(6, -1) > 0).astype(float)
    found = np.corrcoef(masks)[np.triu_indices(6, 1)]
    assert np.abs(found).max() < 4.5 / 40
    assert len({query.tobytes() for query in row.reshape(240, 40)}) == 240


@pytest.mark.parametrize("rate", [0.5, 0.4])
@pytest.mark.parametrize("last_only", [False, True])
def test_padding_that_a_row_leaves_out_is_dropped_as_if_it_stood_there(rate, last_only):
    """Each query's weights over the padding of a row of 70 slots, added up."""
    short, full = layouts()[0], tiny.lay(ROWS, ((4, 70),), left=True).replace(place_R=numbers(2, 0, 3, 1))
    short = short.replace(left_out_R=numbers(*(70 - len(row) for row in ROWS)))
    sums = [w[..., :1] * (70 - len(ROWS[0])) for w in weights_of(short, (2,), 2, last_only)]
    ours = drop_left_out(sums, KEY, rate, short, 2)
    ours = [row for group in ours for row in np.moveaxis(np.asarray(group), 1, 0)]
    (wanted,) = drop_weights(weights_of(full, (2,), 2, last_only), KEY, rate, full, 2)
    for row, (items, theirs) in enumerate(zip(ROWS, np.moveaxis(np.asarray(wanted), 1, 0))):
        padding = 70 - len(items)
        queries = slice(0, 1) if last_only else slice(padding, 70)
        total = theirs[..., queries, :padding].sum(axis=-1) / padding * (70 - len(ROWS[0]))
        np.testing.assert_allclose(ours[row][..., : total.shape[-1], 0], total, rtol=1e-5)
        assert len(np.unique(total)) > 1
