"""The checksum of an array is the same, however it is cut into blocks."""

import itertools
import zlib

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from llmesr_jax.training import checksums


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_blocks_give_the_checksum_of_the_whole(data):
    shape = tuple(data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=3), "shape"))
    more = tuple(data.draw(st.integers(0, 2), "rows of zeros") for _ in shape)  # behind the last; they do not count
    x = np.random.default_rng(len(shape)).normal(size=shape).astype(data.draw(st.sampled_from(["f4", "f8", "i2"])))
    padded = np.pad(x, [(0, count) for count in more])
    cuts = [data.draw(st.sets(st.integers(1, size)), "cuts") for size in padded.shape]
    edges = [sorted({0, size, *(cut for cut in where if cut < size)}) for where, size in zip(cuts, padded.shape)]
    crc, prefix = 0, b"before"
    for starts in itertools.product(*(list(itertools.pairwise(edge)) for edge in edges)):
        index = tuple(slice(start, stop) for start, stop in starts)
        for start, run in checksums._runs(padded[index], index, shape):
            own = zlib.crc32(run.tobytes(), 0xFFFFFFFF) ^ 0xFFFFFFFF
            crc ^= checksums._moved(own, x.nbytes - start * x.itemsize - run.nbytes)
    before = zlib.crc32(prefix) ^ 0xFFFFFFFF
    assert checksums._moved(before, x.nbytes) ^ crc ^ 0xFFFFFFFF == zlib.crc32(prefix + x.tobytes())


def test_bytes_of_zeros_move_a_checksum_on():
    for count in (0, 1, 7, 4096, 10**6):
        assert checksums._moved(1 << 31, count) == _plain(count)


def _plain(count):
    """x^(8 count) modulo the polynomial, by the bytes themselves: what zlib makes of a one and zeros."""
    one = zlib.crc32(b"\0" * count, 1 << 31 ^ 0xFFFFFFFF)
    return one ^ 0xFFFFFFFF
