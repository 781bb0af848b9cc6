"""Where a run's time goes, from spans written down by hand."""

import json
import threading

import pytest

from llmesr_jax.core import spans
from llmesr_jax.experiments import whole_run

TRACE, LOWER, COMPILE = whole_run._TRACE, whole_run._LOWER, whole_run._COMPILE


@pytest.fixture
def recording(monkeypatch):
    """A command that starts at 100 and is looked at at 120: steps that compile, a validation that does not."""
    monkeypatch.setattr(whole_run.time, "time", lambda: 120.0)
    found = whole_run.Recording(100.0)
    found.hear("import", 100.0, 102.0)
    found.hear(TRACE, 103.0, 103.5, fun_name="probe")  # for shapes alone
    found.hear(TRACE, 104.5, 105.0, fun_name="inner")
    found.hear(TRACE, 104.0, 106.0, fun_name="run_window")
    found.hear(LOWER, 106.0, 106.5, fun_name="jit(run_window)")
    found.hear(COMPILE, 106.5, 110.0, fun_name="jit(run_window)")
    found.hear("steps", 104.0, 112.0)
    found.hear("validation", 113.0, 114.0)
    found.hear(LOWER, 114.0, 114.1, fun_name="jit(again)")
    found.hear_hit(whole_run._HIT)
    found.hear(COMPILE, 114.1, 114.2, fun_name="jit(again)")
    return found


def test_parts_are_each_spans_own_time_and_add_up(recording):
    parts = recording.parts()
    assert tuple(parts) == whole_run.PARTS and sum(parts.values()) == pytest.approx(20.0)
    assert parts["import"] == 2.0 and parts["validation"] == 1.0
    assert parts["trace"] == pytest.approx(0.5 + 2.0 + 0.5 + 0.1)
    assert parts["compile"] == pytest.approx(3.5 + 0.1)
    assert parts["steps"] == pytest.approx(8.0 - 2.0 - 0.5 - 3.5)
    assert recording.times("validation") == [14.0]


def test_programs_have_what_was_traced_and_compiled_for_them(recording):
    programs, traced = recording.programs([7])
    assert [(one.name, one.operations, one.kept) for one in programs] == [
        ("run_window", 7, False),
        ("again", None, True),
    ]
    assert [one.trace for one in programs] == pytest.approx([2.5, 0.1])
    assert [one.compile for one in programs] == pytest.approx([3.5, 0.1])
    assert traced == {"probe": 0.5}
    text = whole_run.programs_table(programs, traced, most=1)
    assert "run_window" in text and "1 more" in text and "traced only: probe" in text and "2 programs" in text


def test_what_another_thread_compiles_meanwhile_is_a_program_but_no_time_of_the_command(recording):
    def ahead():
        recording.hear(TRACE, 104.2, 104.9, fun_name="next")
        recording.hear(LOWER, 104.9, 105.4, fun_name="jit(next)")

    before, (programs, _) = recording.parts(), recording.programs()
    thread = threading.Thread(target=ahead)
    thread.start()
    thread.join()
    recording.hear(LOWER, 114.2, 114.3, fun_name="jit(last)")
    recording.hear(COMPILE, 114.3, 114.4, fun_name="jit(last)")
    parts = recording.parts()
    assert parts["trace"] == pytest.approx(before["trace"] + 0.1) and sum(parts.values()) == pytest.approx(20.0)
    found, traced = recording.programs()
    assert found[:2] == programs and found[2].name == "last" and found[2].trace == pytest.approx(0.1)
    assert traced["next"] == pytest.approx(0.7)


def test_spans_reach_those_who_listen_and_nobody_else():
    heard = []
    with spans.heard_by(lambda name, start, end: heard.append((name, start <= end))):
        with pytest.raises(KeyError), spans.span("outer"), spans.span("inner"):
            raise KeyError
    with spans.span("later"):
        pass
    assert heard == [("inner", True), ("outer", True)]


def test_the_first_epoch_at_95_per_cent_of_the_best(tmp_path):
    """Means of two seeds are .10, .19 and .20, and the epoch before was not validated: .19 is 95 % of .20."""
    lines = [{"epoch": 1, "seed": s, "loss/total": 1.0} for s in (1, 2)]
    for epoch, (a, b) in {2: (0.05, 0.15), 3: (0.18, 0.20), 4: (0.21, 0.19)}.items():
        lines += [{"epoch": epoch, "seed": s, "valid/overall/N@10": v} for s, v in ((1, a), (2, b))]
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert whole_run.reached(path, "N@10", [4.0, 8.0, 9.0, 10.0]) == (3, 9.0)
    assert whole_run.reached(path, "H@10", []) is None


def test_the_start_of_this_process_lies_behind():
    assert 0 < whole_run.time.time() - whole_run.process_start() < 24 * 3600
