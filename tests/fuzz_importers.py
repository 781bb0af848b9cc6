"""Damages the bytes of valid raw files of every source: only an InputError or a whole result may come of it.

    PYTHONPATH=.:tests python tests/fuzz_importers.py --seconds=600 [--seed=1]

Each case is one of a process of its own only by its folder; a case that takes longer than 20 seconds counts as a hang.
"""

from __future__ import annotations

import argparse
import gzip
import io
import random
import signal
import sys
import tarfile
import tempfile
import time
import traceback
import zipfile
from collections import Counter
from pathlib import Path

import prepared
import raw_samples

from llmesr_jax.core.errors import InputError
from llmesr_jax.data import reading

_HANG = 20  # seconds
# fmt: off
_INTERESTING = [
    b"\0", b"\xff", b"\n", b"\r", b'"', b"'", b"{", b"}", b"[" * 300, b"\\", b"\\ud800", b"9" * 5000, b"-1", b"1e999",
    b"null", b"None", b"NaN", b",", b"\t", b"::", b"\xef\xbb\xbf", b"\xe2\x80\xa8", b"../", b" " * 70_000,
]
# fmt: on


def damaged(content: bytes, rng: random.Random) -> bytes:
    """The bytes with one to eight changes."""
    found = bytearray(content)
    for _ in range(rng.choice([1, 1, 1, 2, 4, 8])):
        at, kind = rng.randrange(len(found) + 1), rng.randrange(7)
        span = rng.choice([1, 2, 8, 64])
        if kind == 0 and at < len(found):
            found[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            found[at : at + span] = rng.randbytes(span)
        elif kind == 2:
            del found[at : at + span]
        elif kind == 3:
            found[at:at] = found[at : at + span] * rng.choice([1, 3])
        elif kind == 4:
            found[at:at] = rng.choice(_INTERESTING)
        elif kind == 5:
            del found[at:]
        else:
            other = rng.randrange(len(found) + 1)
            found[at : at + span] = found[other : other + span]
    return bytes(found)


def spoil(folder: Path, rng: random.Random) -> None:
    """Damages one file below `folder`: its bytes or, mostly, what is inside of one that is compressed or an archive."""
    path = rng.choice(sorted(p for p in folder.rglob("*") if p.is_file()))
    content, inside = path.read_bytes(), rng.random() < 0.8
    if path.suffix == ".gz" and inside:
        path.write_bytes(gzip.compress(damaged(gzip.decompress(content), rng), 1, mtime=0))
    elif path.suffix == ".zip" and inside:
        with zipfile.ZipFile(path) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        unlucky = rng.choice(sorted(members))
        with zipfile.ZipFile(path, "w") as archive:
            for name, member in members.items():
                archive.writestr(name, damaged(member, rng) if name == unlucky else member)
    elif path.suffix == ".tar" and inside:
        with tarfile.open(path) as archive:
            members = {name: archive.extractfile(name).read() for name in archive.getnames()}
        unlucky = rng.choice(sorted(members))
        with tarfile.open(path, "w") as archive:
            for name, member in members.items():
                info = tarfile.TarInfo(name)
                member = damaged(member, rng) if name == unlucky else member
                info.size = len(member)
                archive.addfile(info, io.BytesIO(member))
    else:
        path.write_bytes(damaged(content, rng))


def case(source: str, seed: int) -> str:
    """Runs one case; returns "whole" or "refused".

    Raises:
      AssertionError: something was left half-written. And whatever else went wrong.
    """
    rng = random.Random(f"{source} {seed}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        flags = raw_samples.write(source, folder / "raw")
        spoil(folder / "raw", rng)
        limit = f"--max_bad_lines={rng.choice([0, 1, 100])}"
        try:
            prepared.run(folder / "raw", folder / "out", [*flags, limit])
        except InputError as error:
            assert "\n" not in str(error) and len(str(error)) < 2000, f"no clear line: {str(error)[:300]!r}"
            assert [path.name for path in folder.iterdir()] == ["raw"], "something is left"
            return "refused"
        assert sorted(path.name for path in folder.iterdir()) == ["out", "raw"]
        tuple(reading.load("shop", folder / "out").item_records or ())
        return "whole"


def fuzz(seconds: float, seed: int, sources: list[str] | None = None) -> tuple[Counter, list[str]]:
    """Counts of (source, outcome) of all cases run in that time, and what was found, as one text each."""

    def hang(*_):
        raise TimeoutError(f"longer than {_HANG} s")

    outcomes: Counter = Counter()
    findings, end, number = [], time.monotonic() + seconds, seed
    before = signal.signal(signal.SIGALRM, hang)
    try:
        while time.monotonic() < end:
            for source in sources or raw_samples.SOURCES:
                signal.alarm(_HANG)
                try:
                    outcomes[source, case(source, number)] += 1
                except BaseException as error:
                    if isinstance(error, KeyboardInterrupt):
                        raise
                    outcomes[source, "FOUND"] += 1
                    last = traceback.format_exc().strip().splitlines()[-8:]
                    findings.append(f"case({source!r}, {number}): {type(error).__name__}\n" + "\n".join(last))
                finally:
                    signal.alarm(0)
            number += 1
    finally:
        signal.signal(signal.SIGALRM, before)
    return outcomes, findings


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--source", action="append", choices=list(raw_samples.SOURCES))
    args = parser.parse_args()
    counts, found = fuzz(args.seconds, args.seed, args.source)
    for text in found:
        print(text, end="\n\n")
    for (source, outcome), count in sorted(counts.items()):
        print(f"{source:12} {outcome:8} {count}")
    print(f"{sum(counts.values())} cases in {args.seconds:.0f} s, {len(found)} findings")
    sys.exit(bool(found))
