"""CRC-32 of trees of arrays, whole on the host or in blocks on several devices; the number is the same for both.

A CRC that starts from zero is linear over GF(2): that of the whole is the sum of its blocks' CRCs, each extended by
zeros for the bytes that follow the block. Extending by n bytes of zeros is a multiplication by x^(8n) modulo the
polynomial of the CRC. So each process reads its own blocks, and one number per array is exchanged.
"""

from __future__ import annotations

import functools
import itertools
import math
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np

from llmesr_jax.training import processes

_ONES = 0xFFFFFFFF
_POLYNOMIAL = 0xEDB88320  # of zlib's CRC-32; as in all numbers here, the highest bit is the coefficient of x^0
_ONE = 1 << 31


def checksum(tree: Any, shapes: Mapping[str, tuple[int, ...]] | None = None) -> int:
    """CRC-32 over names, types, shapes and bytes of the leaves, in order of name.

    A tree has the same checksum as the nested dicts as which it is read back, on whatever devices its arrays are. If
    these devices are of several processes, all must call this.

    Args:
      tree: arrays.
      shapes: {name: shape} of leaves that end in rows which do not count, without these rows.
    """
    leaves, shapes = sorted(named(tree).items()), shapes or {}
    shape_of = {name: tuple(shapes.get(name, leaf.shape)) for name, leaf in leaves}
    blocked = [name for name, leaf in leaves if in_blocks(leaf)]
    own = np.array([_own(leaf, shape_of[name]) for name, leaf in leaves if in_blocks(leaf)], np.uint32)
    sums = dict(zip(blocked, np.bitwise_xor.reduce(processes.gathered(own), axis=0).tolist()))
    crc = 0
    for name, leaf in leaves:
        shape = shape_of[name]
        crc = zlib.crc32(f"{name} {leaf.dtype} {shape} ".encode(), crc)
        if name in sums:
            crc = _moved(crc ^ _ONES, math.prod(shape) * leaf.dtype.itemsize) ^ sums[name] ^ _ONES
        else:
            crc = zlib.crc32(_bytes(np.asarray(leaf)[tuple(slice(size) for size in shape)]), crc)
    return crc


def in_blocks(leaf: Any) -> bool:
    """Whether an array is on several devices."""
    return isinstance(leaf, jax.Array) and len(leaf.sharding.device_set) > 1


def named(tree: Any) -> dict[str, Any]:
    """The leaves of a tree by their paths, such as best/table/items."""
    return {name_of(path): leaf for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]}


def name_of(path: tuple[Any, ...]) -> str:
    """A key path as text."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def _own(x: jax.Array, shape: tuple[int, ...]) -> int:
    """What this process's blocks, cut to a shape, add to an array's CRC; of replicas only the first counts."""
    found, size = 0, math.prod(shape) * x.dtype.itemsize
    for shard in x.addressable_shards:
        if shard.replica_id == 0:
            for start, run in _runs(np.asarray(shard.data), shard.index, shape):
                data = _bytes(run)
                crc = zlib.crc32(data, _ONES) ^ _ONES
                found ^= _moved(crc, size - start * x.dtype.itemsize - len(data))
    return found


def _runs(block: np.ndarray, index: tuple[slice, ...], shape: tuple[int, ...]) -> Iterator[tuple[int, np.ndarray]]:
    """The contiguous runs of a block in the whole array, each with the index of its first element there."""
    bounds = [(at.indices(size)[0], min(at.indices(size)[1], size)) for at, size in zip(index, shape)]
    if any(start >= stop for start, stop in bounds):
        return
    block = block[tuple(slice(stop - start) for start, stop in bounds)]
    partial = [axis for axis, (bound, size) in enumerate(zip(bounds, shape)) if bound != (0, size)]
    last = max(partial, default=0)
    steps = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
    for at in itertools.product(*(range(start, stop) for start, stop in bounds[:last])):
        first = [*at, *(start for start, _ in bounds[last:])]
        yield (
            sum(i * step for i, step in zip(first, steps)),
            block[tuple(i - start for i, (start, _) in zip(at, bounds))],
        )


def _bytes(x: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(x).reshape(-1).view(np.uint8)


def _moved(crc: int, count: int) -> int:
    """A CRC that started from zero, extended by so many bytes of zeros."""
    return _times(_power(count), crc)


@functools.lru_cache(maxsize=4096)
def _power(count: int) -> int:
    """x^(8 count) modulo the polynomial."""
    found, square = _ONE, _ONE >> 8
    while count:
        if count & 1:
            found = _times(found, square)
        square, count = _times(square, square), count >> 1
    return found


def _times(a: int, b: int) -> int:
    """The product of two polynomials modulo that of the CRC."""
    product = 0
    while a:
        if a & _ONE:
            product ^= b
        a = (a << 1) & _ONES
        b = (b >> 1) ^ (_POLYNOMIAL if b & 1 else 0)
    return product
