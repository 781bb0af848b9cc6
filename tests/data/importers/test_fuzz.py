"""Damaged raw files of every source; LLMESR_FUZZ_SECONDS says for how long (default 6), LLMESR_FUZZ_SEED from where."""

import os

import fuzz_importers
import pytest
import raw_samples

pytestmark = pytest.mark.slow


def test_damaged_files_end_in_a_clear_line_or_a_whole_result(caplog):
    seconds, seed = float(os.environ.get("LLMESR_FUZZ_SECONDS", 6)), int(os.environ.get("LLMESR_FUZZ_SEED", 0))
    outcomes, findings = fuzz_importers.fuzz(seconds, seed)
    assert not findings, findings[0]
    assert {source for source, _ in outcomes} == set(raw_samples.SOURCES)
    assert {outcome for _, outcome in outcomes} <= {"whole", "refused"}
