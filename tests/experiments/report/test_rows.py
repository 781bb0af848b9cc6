"""Which runs make one row, which stand in one table, and what rows are called."""

import json
import shlex

import pytest
import report_runs

from llmesr_jax.core.errors import InputError
from llmesr_jax.experiments.report import collect, rows
from llmesr_jax.training import config


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return report_runs.data(tmp_path_factory.mktemp("data"))


@pytest.fixture
def write(data, tmp_path):
    def write(name, *args, **kwargs):
        return report_runs.write(tmp_path / "runs" / name, data, *args, **kwargs)

    return write


def sections(folder):
    return rows.sections(collect.read_all(collect.find([folder])))


def names(folder):
    return [section.label(row) for section in sections(folder) for row in section.rows]


def test_seeds_of_several_folders_are_one_row(write, tmp_path):
    write("a", seeds=(3, 1))
    write("b", seeds=(2,))
    ((row,),) = [section.rows for section in sections(tmp_path)]
    assert row.seeds == (1, 2, 3) and len(row.runs) == 2
    stored = {run.folder.name: run.results["full"]["overall"]["N@10"] for run in row.runs}
    assert row.values("full", "N@10", "overall") == [stored["a"][1], stored["b"][0], stored["a"][0]]


def test_a_seed_that_stands_twice_counts_once(write, tmp_path, caplog):
    write("a", seeds=(1, 2))
    write("b", seeds=(2, 3))
    ((row,),) = [section.rows for section in sections(tmp_path)]
    assert row.seeds == (1, 2, 3) and row.places[2][0].folder.name == "a"
    assert "b: seed 2 was also trained in" in caplog.text


def test_a_folder_named_twice_is_read_once(write, tmp_path):
    write("a")
    assert len(collect.find([tmp_path, tmp_path / "runs", tmp_path / "runs" / "a"])) == 1


def test_other_data_and_other_ways_of_ranking_are_apart(write, tmp_path):
    other = report_runs.commands.write_data(tmp_path / "other" / "tiny", users=50)
    write("a")
    write("b", train__seen_items="zero")
    write("c", train__eval_users=20)
    report_runs.write(tmp_path / "runs" / "d", other)
    found = sections(tmp_path / "runs")
    assert [len(section.rows) for section in found] == [1, 1, 1, 1]
    assert [section.slug for section in found] == ["tiny", "tiny-2", "tiny-3", "tiny-4"]
    assert len({section.name for section in found}) == 4
    assert "seen items: zero" in found[1].name and "20 test users" in found[2].name
    assert [len(section.users_E) for section in found] == [60, 60, 20, 50]


def test_rows_are_named_by_what_varies(write, tmp_path):
    write("0", "llmesr")
    write("1", "llmesr", llmesr__alpha=0.0)
    write("2", "llmesr", llmesr__alpha=0.5)
    write("3", "llmesr", llmesr__views="semantic")
    write("4", "llmesr", llmesr__similar=6)
    write("5", "llmesr", llmesr__freeze_semantic=False, semantic__crop=True)
    write("6", "llmesr", preset="release")
    write("7", "none")
    write("8", "none", data__max_len=100)
    wanted = ["none", "none data.max_len=100", "llmesr", "llmesr N=6", "llmesr alpha=0.5", "llmesr release"]
    wanted += ["llmesr Crop, w/o F", "llmesr w/o SD", "llmesr w/o Co-view"]
    assert sorted(names(tmp_path)) == sorted(wanted)
    found = names(tmp_path)
    assert found[0] == "none" and found[2:6] == ["llmesr", "llmesr w/o Co-view", "llmesr w/o SD", "llmesr Crop, w/o F"]


def test_the_row_with_its_presets_settings_has_the_plain_name(write, tmp_path):
    write("0", "faerec", loss__ranking="bpr")
    write("1", "faerec")  # preset paper trains it by bce, other methods by bpr
    write("2", "faerec", train__epochs=7)
    assert names(tmp_path) == ["faerec", "faerec loss.ranking=bpr", "faerec train.epochs=7"]


def test_rows_on_the_same_data_by_two_names_have_two_names(write, tmp_path):
    write("0", dataset="tiny")
    write("1", dataset="demo")  # has settings of its own in configs/
    default = config.default()
    usual = f"none data.max_len={default.data.max_len}, train.epochs={default.train.epochs}"
    assert sorted(names(tmp_path)) == [usual, "none data.max_len=50, train.epochs=60"]


def test_numbers_are_in_their_order_and_backbones_apart(write, tmp_path):
    for i, alpha in enumerate((1.0, 0.05, 0.5)):
        write(f"a{i}", "llmesr", llmesr__alpha=alpha)
    write("b", "none", backbone="sasrec")
    assert names(tmp_path) == [f"gru4rec · llmesr alpha={alpha}" for alpha in (0.05, 0.5, 1.0)] + ["sasrec · none"]


def test_epochs_tell_rows_apart(write, tmp_path):
    write("a", train__epochs=3)
    write("b", train__epochs=4)
    assert names(tmp_path) == ["none train.epochs=3", "none train.epochs=4"]


def test_featured_are_one_of_each_method_and_no_variant(write, tmp_path):
    write("a", "none", backbone="sasrec")
    for i, method in enumerate(("none", "llmesr", "llminit")):
        write(f"b{i}", method)
    write("c", "llmesr", llmesr__alpha=0.5)
    (section,) = sections(tmp_path)
    assert [row.system for row in rows.featured(section)] == ["none", "llminit", "llmesr"]
    assert {row.backbone for row in rows.featured(section)} == {"gru4rec"}


def test_faerecs_ablations_have_the_papers_names(write, tmp_path):
    ablations = {
        "w/o AGF": {"gate": False},
        "w/o AGF, mean of both views": {"gate": False, "without_gate": "mean"},
        "w/o ILA": {"item_alignment": False},
        "w/o FLA": {"feature_alignment": False},
        "w/o CLS": {"curriculum": False},
        "w/o PG": {"popularity_groups": False},
    }
    for i, changes in enumerate([{}, *ablations.values()]):
        write(f"a{i}", "faerec", **{f"faerec__{key}": value for key, value in changes.items()})
    (section,) = sections(tmp_path)
    assert [row.title for row in section.rows] == ["FAERec", *(f"FAERec {name}" for name in ablations)]


def test_methods_stand_as_in_the_papers(write, tmp_path):
    for i, method in enumerate(("faerec", "llminit", "cities", "rlmrec_con", "none")):
        write(f"a{i}", method, start="there/none" if method == "cities" else "")
    (section,) = sections(tmp_path)
    assert [row.title for row in section.rows] == ["Base", "CITIES", "RLMRec-Con", "LLMInit", "FAERec"]
    assert section.title(section.rows[-1]) == "FAERec" and section.label(section.rows[-1]) == "faerec"


def test_seeds_that_started_from_folders_of_one_name_are_one_row(write, tmp_path):
    for seed in (1, 2):
        write(f"a{seed}", "cities", seeds=(seed,), start=f"runs/{seed}/none")
    ((row,),) = [section.rows for section in sections(tmp_path)]
    assert row.seeds == (1, 2)


def test_what_else_differs_is_told_with_the_sections_of_backbones(write, tmp_path):
    write("a", "none", train__learning_rate=0.01, backbone="sasrec", sasrec__dropout=0.4)
    write("b", "llmesr", backbone="sasrec")
    write("c", "llmesr", backbone="sasrec", llmesr__alpha=0.5)
    (section,) = sections(tmp_path)
    found = {
        key: {v: [row.system for row in of] for v, of in values.items()}
        for key, values in rows.differing(section.rows).items()
    }
    assert found == {
        "<method>.width": {"128": ["none"], "64": ["llmesr", "llmesr alpha=0.5"]},
        "llmesr.alpha": {"0.1": ["llmesr"], "0.5": ["llmesr alpha=0.5"]},
        "sasrec.dropout": {"0.4": ["none"], "0.5": ["llmesr", "llmesr alpha=0.5"]},
        "train.learning_rate": {"0.01": ["none"], "0.001": ["llmesr", "llmesr alpha=0.5"]},
    }


def test_one_setting_in_the_sections_of_several_methods_is_compared_between_them(write, tmp_path):
    write("a", "none", none__width=32)
    write("b", "llminit")
    write("c", "none", backbone="sasrec", sasrec__dropout=0.1, none__width=32)
    write("d", "none", backbone="bert4rec", none__width=32)
    (section,) = sections(tmp_path)
    found = rows.differing(section.rows)
    assert {value: [row.method for row in of] for value, of in found["<method>.width"].items()} == {
        "32": ["none", "none", "none"],
        "128": ["llminit"],
    }
    of_backbones = {value: [row.backbone for row in of] for value, of in found["<backbone>.dropout"].items()}
    assert of_backbones["0.1"] == ["sasrec"] and ["bert4rec"] in of_backbones.values()


def test_a_row_that_the_limit_of_epochs_ended_is_marked(write, tmp_path):
    """Three epochs, the best was the second: with patience 1 training had ended by itself."""
    write("a", "none", train__patience=1)
    write("b", "llmesr", train__patience=20)
    report_runs.change(write("c", "llminit", train__patience=20) / "results.json", early_stopped=True)
    (section,) = sections(tmp_path)
    assert {row.method: row.cut for row in section.rows} == {"none": False, "llmesr": True, "llminit": False}


def test_the_time_of_seeds_trained_together_counts_once(write):
    folder = write("a", seeds=(1, 2))
    assert collect.read(folder).seconds is None
    lines = [{"epoch": e, "seed": s, "seconds": 1.5 + e} for e in (1, 2) for s in (1, 2)]
    lines.append({"epoch": 3, "seed": 2, "seconds": 4.25})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert collect.read(folder).seconds == 2.5 + 3.5 + 4.25


def test_a_run_whose_continuation_stopped_is_still_that_of_its_results(write, tmp_path):
    folder = write("a", seeds=(1,), train__epochs=3, train__patience=5)
    write("b", seeds=(2,), train__epochs=9, train__patience=5)
    stored = json.loads((folder / "config.json").read_text())["config"]
    stored["train"] |= {"epochs": 9, "patience": 7}
    report_runs.change(folder / "config.json", config=stored)
    lines = [{"epoch": e, "seed": 1, "seconds": 1.5} for e in (1, 2, 3, 4)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    run = collect.read(folder)
    assert (run.config.train.epochs, run.config.train.patience) == (3, 5)
    assert [line["epoch"] for line in run.curves] == [1, 2, 3] and run.seconds == 4.5
    assert names(tmp_path) == ["none train.epochs=3", "none train.epochs=9"]


@pytest.mark.parametrize(
    "settings",
    [
        {"method": "llmesr", "llmesr__alpha": 0.5, "train__epochs": 7},
        {"method": "none", "preset": "release", "data__max_len": 30, "semantic__item_template": "A {noun}: {title}"},
    ],
)
def test_the_command_trains_the_same(write, data, settings):
    run = collect.read(write("a", **settings))
    words = shlex.split(collect.command(run.config))
    assert words[:3] == ["python", "-m", "launch.train"]
    pairs = dict(word.removeprefix("--").removeprefix("config.").split("=", 1) for word in words[3:])
    wanted = config.flatten(run.config)
    typed = {key: type(wanted[key])(value) for key, value in pairs.items()}
    again = config.build({}, typed)
    assert config.digest(again) == config.digest(run.config)
    assert again.train.epochs == run.config.train.epochs


def test_the_command_of_a_run_whose_data_are_gone_has_all_its_settings(write):
    folder = write("a", data__max_len=50, train__epochs=60)
    stored = json.loads((folder / "config.json").read_text())
    stored["config"]["data_dir"] = ""
    report_runs.change(folder / "config.json", config=stored["config"])
    words = shlex.split(collect.command(collect.read(folder).config))
    assert {"--config.data.max_len=50", "--config.train.epochs=60"} <= set(words)


def test_starts_tell_versions_device_and_command(write):
    folder = write("a")
    assert collect.read(folder).about == {"jax": "0.10.2"}
    first = '{"time": "2026-01-02T03:04:05+00:00", "command": "python first"}\n'
    second = '{"time": "2026-02-03T03:04:05+00:00", "command": "python -m launch.train", "python": "3.12.1", '
    second += '"device": {"platform": "gpu", "kind": "H100", "count": 2}, "versions": {"jax": "0.11.0", "x": null}, '
    second += '"git": {"commit": "0123456789abcdef", "dirty": true}}\n'
    (folder / "starts.jsonl").write_text(first + second + '{"time": "20')
    run = collect.read(folder)
    assert run.date == "2026-02-03"
    assert run.about == {
        "jax": "0.11.0",
        "command": "python -m launch.train",
        "python": "3.12.1",
        "device": "2 x H100",
        "git": "0123456789 (changed)",
        "starts": "2",
    }


def test_unfinished_runs_are_left_out_and_told(write, tmp_path, caplog):
    write("a")
    (write("b") / "results.json").unlink()
    assert names(tmp_path) == ["none"]
    assert "left out, as they are not finished: " in caplog.text and caplog.text.rstrip().endswith("b")


def damage_results(folder):
    (folder / "results.json").write_text('{"seeds": [1], ')


def other_count(folder):
    report_runs.change(folder / "results.json", seeds=[1, 2])


def damage_ranks(folder):
    (folder / "ranks.npz").write_bytes(b"PK\x03\x04 nothing")


def no_ranks(folder):
    (folder / "ranks.npz").unlink()


def other_ranks(folder):
    (folder / "ranks.npz").replace(folder / "old.npz")
    report_runs.np.savez(folder / "ranks.npz", **{k: v + 1 for k, v in report_runs.np.load(folder / "old.npz").items()})


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (damage_results, "a/results.json: is not a run's results ("),
        (other_count, "a/results.json: is not a run's results (ValueError: overall H@10 has 3 numbers for 2 seeds)"),
        (damage_ranks, "a/ranks.npz: is not a run's ranks ("),
        (no_ranks, "a/ranks.npz: cannot be read (No such file or directory)"),
        (other_ranks, "a: ranks.npz and results.json belong to different parameters (seed 1, full"),
    ],
)
def test_damaged_files_are_named(write, spoil, message):
    folder = write("a")
    spoil(folder)
    with pytest.raises(InputError) as error:
        collect.read(folder)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_folders_without_runs(tmp_path, write):
    with pytest.raises(InputError, match="gone: no such folder"):
        collect.find([tmp_path / "gone"])
    with pytest.raises(InputError, match="has no run"):
        collect.find([tmp_path])
    (write("a") / "results.json").unlink()
    with pytest.raises(InputError, match="a: has no results.json yet"):
        collect.read_all(collect.find([tmp_path]))


def test_results_without_a_configuration_are_told(write, tmp_path, caplog):
    without, whole = write("a"), write("b")
    (without / "config.json").unlink()
    assert collect.find([tmp_path]) == [whole]
    assert f"left out, as there is no config.json beside results.json: {without}" in caplog.text


def test_a_torn_line_of_metrics_is_passed_over(write):
    folder = write("a")
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 4, "se')
    assert {line["epoch"] for line in collect.read(folder).curves} == {1, 2, 3}
