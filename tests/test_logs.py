"""The lines a run writes, and how a continued run goes on with them."""

import json

import pytest

from llmesr_jax.logs import Log


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def write(folder, last_epoch, epochs):
    log = Log(folder, last_epoch)
    for epoch in epochs:
        for seed in (1, 2):
            log.write(epoch, seed, {"loss/total": epoch / 4}, 0.12345)
    log.close()


def test_a_line_for_each_epoch_and_seed(tmp_path):
    write(tmp_path, 0, [1, 2])
    assert lines(tmp_path) == [
        {"epoch": epoch, "seed": seed, "loss/total": epoch / 4, "seconds": 0.123} for epoch in (1, 2) for seed in (1, 2)
    ]


def test_a_continued_run_drops_the_lines_that_come_again(tmp_path):
    write(tmp_path, 0, [1, 2, 3])
    write(tmp_path, 1, [2, 3, 4])
    assert [line["epoch"] for line in lines(tmp_path)] == [1, 1, 2, 2, 3, 3, 4, 4]


@pytest.mark.parametrize("cut", ['{"epoch": 1, "se', "3", "null", ""])
def test_a_line_that_a_crash_cut_off_is_dropped(tmp_path, cut):
    write(tmp_path, 0, [1])
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write(cut)
    write(tmp_path, 1, [2])
    assert [line["epoch"] for line in lines(tmp_path)] == [1, 1, 2, 2]


def test_tensorboard_holds_the_same_numbers(tmp_path):
    events = pytest.importorskip("tensorboardX.proto.event_pb2")
    write(tmp_path, 0, [1, 2])
    write(tmp_path, 1, [2])
    found = []
    for path in sorted((tmp_path / "tensorboard").iterdir()):
        content = path.read_bytes()
        while content:  # a record: length (8 bytes), checksum (4), event, checksum (4)
            length = int.from_bytes(content[:8], "little")
            event = events.Event.FromString(content[12 : 12 + length])
            found += [(event.step, value.tag, value.simple_value) for value in event.summary.value]
            content = content[16 + length :]
    first = [(e, f"loss/total/seed_{s}", e / 4) for e in (1, 2) for s in (1, 2)]
    assert found == first + first[2:]
