"""`python -m launch.train --method=faerec` from end to end, in both presets."""

import json

import pytest

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("preset", ["paper", "release"])
def test_faerec_trains_and_watches_what_it_is_told(train, tmp_path, preset):
    settings = ("--config.faerec.width=8", "--config.train.monitor=N@20", "--config.train.monitor_after=2")
    validates = preset == "paper"  # before the epochs that are monitored
    once = ("--method=faerec", f"--preset={preset}", f"--config.train.validate_unmonitored={validates}", *settings)
    once = (*once, "--config.train.valid_protocol=full", "--workdir=w")
    if not validates:
        result = train(*once, "--epochs=2", cwd=tmp_path)
        assert "no epoch up to 2 was monitored (train.monitor_after=2), so the newest parameters are" in result.out
        assert "still improving" not in result.out
    before = result.out if not validates else ""
    result = train(*once, "--epochs=3", cwd=tmp_path)
    assert result.status == 0, result.err
    assert "still improving at epoch 3;" in result.out and "was monitored" not in result.out
    results = json.loads((tmp_path / "w" / "results.json").read_text())
    assert results["best_epoch"] == [3]  # the first that is monitored beats all before it
    lines = [json.loads(line) for line in (tmp_path / "w" / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        assert {"loss/ranking", "loss/item_alignment", "loss/feature_alignment"} <= line.keys()
    told = [(before + result.out).count(text) for text in ("not monitored yet", "not validated yet", "valid full N@20")]
    assert told == ([2, 0, 3] if validates else [0, 2, 1])
    assert ["valid/overall/N@10" in line for line in lines] == [validates, validates, True]
    # w_item is 1 in the first epoch, so the feature-level loss has no weight yet.
    first = lines[0]
    total = first["loss/ranking"] + 0.2 * first["loss/item_alignment"]
    assert first["loss/total"] == pytest.approx(total, rel=1e-4)
    for name in ("Coverage@10", "TailCoverage@10"):
        assert 0 < results["test"]["full"]["coverage"][name][0] <= 1
