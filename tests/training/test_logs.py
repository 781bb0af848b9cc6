"""The lines a run writes, to whom else its numbers go, and how a continued run goes on with them."""

import importlib
import json
import sys
from pathlib import Path

import jax
import pytest

from llmesr_jax.core.errors import InputError
from llmesr_jax.training import active_run, experiment, loggers, logs, loop
from llmesr_jax.training import config as config_lib
from llmesr_jax.training.logs import Log


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def write(folder, last_epoch, epochs, config=None):
    log = Log(folder, last_epoch, config)
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


@pytest.fixture
def stand_in(monkeypatch):
    """stand_in(name) -> a package of tests/stand_ins, fresh, in place of the real one."""
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "stand_ins")

    def load(name):
        for module in [m for m in sys.modules if m.partition(".")[0] == name]:
            monkeypatch.delitem(sys.modules, module)
        return importlib.import_module(name)

    yield load
    for name in ("wandb", "mlflow", "mlflow.entities", "mlflow.exceptions"):
        sys.modules.pop(name, None)


def configure(name):
    return config_lib.build(flags={"method": "none", "seeds": "1,2", "loggers": name})


def test_wandb_gets_the_numbers_and_a_continued_run_its_old_id(tmp_path, stand_in):
    calls = stand_in("wandb").calls
    write(tmp_path, 0, [1, 2], configure("wandb"))
    write(tmp_path, 1, [2], configure("wandb"))
    starts = [options for kind, _, *rest in calls if kind == "init" for options in rest]
    assert [(o["id"], o["resume"], o["reinit"], o["dir"]) for o in starts] == [
        (None, "allow", "create_new", str(tmp_path)),
        ("run1", "allow", "create_new", str(tmp_path)),
    ]
    assert starts[0]["config"]["none.width"] == 128 and "llmesr.alpha" not in starts[0]["config"]
    logged = [values for kind, _, *rest in calls if kind == "log" for values in rest]
    first = [{"epoch": e, f"loss/total/seed_{s}": e / 4} for e in (1, 2) for s in (1, 2)]
    assert logged == first + first[2:]
    assert {run for _, run, *_ in calls} == {"run1"} and [c[0] for c in calls].count("finish") == 2


def test_mlflow_gets_the_numbers_and_a_continued_run_its_old_id(tmp_path, stand_in):
    calls = stand_in("mlflow").calls
    write(tmp_path, 0, [1, 2], configure("mlflow"))
    write(tmp_path, 1, [2], configure("mlflow"))
    assert calls[0][2:] == ("experiment0", str(tmp_path))
    assert {call[1] for call in calls} == {calls[0][1]}
    settings = dict(param for call in calls if call[0] == "log_batch" for param in call[3])
    assert settings["none.width"] == "128" and settings["seeds"] == "1,2"
    logged = [(m[0], m[1], m[3]) for call in calls if call[0] == "log_batch" for m in call[2]]
    first = [(f"loss/total/seed_{s}", e / 4, e) for e in (1, 2) for s in (1, 2)]
    assert logged == first + first[2:]
    assert [call[0] for call in calls if call[0] != "log_batch"] == [
        "create_run",
        "set_terminated",
        "update_run",
        "set_terminated",
    ]


SUMMARY = {
    "full": {
        "overall": {"count": [5, 5], "N@10": [0.25, 0.5]},
        "tail_item": {"count": [0, 0], "N@10": [None, None]},
        "coverage": {"Coverage@10": [0.5, 0.75]},
        "by_length": {"1": {"count": [1, 1]}},
    },
    "sampled": {"overall": {"count": [5, 5], "N@10": [0.75, 1.0]}},
}
TESTED = {
    1: {"full/overall/N@10": 0.25, "full/coverage/Coverage@10": 0.5, "sampled/overall/N@10": 0.75},
    2: {"full/overall/N@10": 0.5, "full/coverage/Coverage@10": 0.75, "sampled/overall/N@10": 1.0},
}


@pytest.mark.parametrize("name", ["wandb", "mlflow", "tensorboard"])
def test_the_tests_metrics_of_each_seed_reach_the_logger(tmp_path, stand_in, monkeypatch, name):
    if name != "tensorboard":
        stand_in(name)
    calls = []
    logger = loggers.PLUGINS.load(name).Logger
    monkeypatch.setattr(logger, "write", lambda self, epoch, values: calls.append((epoch, dict(values))))
    with Log(tmp_path, 0, configure(name)) as log:
        log.test(7, (1, 2), SUMMARY)
    assert calls == [(7, {f"test/{key}/seed_{seed}": v for key, v in TESTED[seed].items()}) for seed in (1, 2)]
    assert not (tmp_path / "metrics.jsonl").exists()


def test_tensorboard_holds_the_tests_metrics(tmp_path):
    pytest.importorskip("tensorboardX")
    with Log(tmp_path, 0, configure("tensorboard")) as log:
        log.test(7, (1, 2), SUMMARY)
    (path,) = (tmp_path / "tensorboard").iterdir()
    assert b"test/full/overall/N_10/seed_2" in path.read_bytes()  # its names have no @


RUN = {
    "dataset": "demo",
    "method": "none",
    "backbone": "gru4rec",
    "none.width": 4,
    "data.max_len": 8,
    "data.batch_size": 1024,
    "train.epochs": 1,
    "train.eval_users": 50,
    "train.monitor": "N@20",
    "seeds": "1,2",
    "loggers": "wandb",
}


def trained(folder):
    with jax.numpy_dtype_promotion("standard"):
        return loop.train(experiment.prepare(config_lib.build({**RUN, "workdir": str(folder)})))


def test_a_run_logs_what_is_monitored_and_the_test_before_it_closes(tmp_path, stand_in):
    calls = stand_in("wandb").calls
    results = trained(tmp_path / "w")
    assert [kind for kind, *_ in calls] == ["init", "define_metric", "log", "log", "log", "log", "finish"]
    logged = [values for kind, _, *rest in calls if kind == "log" for values in rest]
    for place, seed in enumerate((1, 2)):
        assert 0 < logged[place][f"valid/overall/N@20/seed_{seed}"] < 1
        tested = logged[2 + place]
        assert tested["epoch"] == 1
        for protocol in ("full", "sampled"):
            for group in ("overall", "tail_item", "head_user"):
                wanted = results["test"][protocol][group]["N@10"][place]
                assert tested[f"test/{protocol}/{group}/N@10/seed_{seed}"] == wanted
    assert lines(tmp_path / "w")[0]["valid/overall/N@20"] == logged[0]["valid/overall/N@20/seed_1"]


@pytest.mark.slow
def test_a_run_that_crashes_in_its_test_closes_its_loggers(tmp_path, stand_in, monkeypatch):
    calls = stand_in("wandb").calls

    def crash(*_):
        raise RuntimeError("no memory")

    monkeypatch.setattr(active_run, "test", crash)
    with pytest.raises(RuntimeError, match="no memory"):
        trained(tmp_path / "w")
    assert calls[-1][0] == "finish" and [call[0] for call in calls].count("finish") == 1


def test_a_logger_that_cannot_be_opened_closes_those_that_are_open(tmp_path, stand_in):
    stand_in("mlflow")
    calls = stand_in("wandb").calls
    (tmp_path / "mlflow.id").write_text("gone")
    with pytest.raises(InputError, match="^loggers: mlflow"):
        Log(tmp_path, 0, configure("wandb,mlflow"))
    assert calls[-1][0] == "finish"


def test_what_a_logger_refuses_is_told_in_one_line(tmp_path, stand_in):
    stand_in("wandb"), stand_in("mlflow")
    (tmp_path / "refused").mkdir()
    with pytest.raises(InputError, match="^loggers: wandb: no API key configured; run wandb login, or set WANDB_MODE="):
        Log(tmp_path / "refused", 0, configure("wandb"))
    (tmp_path / "mlflow.id").write_text("gone")
    with pytest.raises(InputError, match="^loggers: mlflow: Run 'gone' not found; check .*mlflow.id, which may be of"):
        Log(tmp_path, 0, configure("mlflow"))


def test_loggers_are_found_by_name(monkeypatch):
    assert loggers.PLUGINS.names() == ["mlflow", "tensorboard", "wandb"]
    monkeypatch.setattr(logs, "_installed", lambda name: name != "wandb")
    assert logs.loggers("auto") == ["tensorboard"]
    assert logs.loggers("none") == []
    assert logs.loggers("mlflow, tensorboard") == ["mlflow", "tensorboard"]
    monkeypatch.setattr(logs, "_installed", lambda name: False)
    assert logs.loggers("auto") == []


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ("wandb", r"loggers 'wandb': wandb is not installed; run pip install wandb, or remove it from the loggers"),
        ("tensorbord", "logger 'tensorbord' is not known; expected one of: mlflow, tensorboard, wandb"),
        ("mlflow,mlflow", "a logger appears twice"),
        ("", "logger '' is not known"),
    ],
)
def test_loggers_that_are_refused(monkeypatch, wanted, message):
    monkeypatch.setattr(logs, "_installed", lambda name: False)
    with pytest.raises(InputError, match=message):
        logs.loggers(wanted)
