"""Grids of runs: their cells, names and order; the ready files; and what is refused."""

import functools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmesr_jax.core.errors import InputError
from llmesr_jax.experiments import grid, sweep
from llmesr_jax.training import config as config_lib
from llmesr_jax.training import traced

CELLS = {
    "overall": (21, 21),
    "ablations": (8, 8),
    "text_and_freezing": (4, 4),
    "text_and_freezing_files": (4, 4),
    "alpha_and_n": (9, 5),
    "faerec_overall": (27, 27),
    "faerec_backbones": (6, 6),
    "faerec_ablations": (24, 24),
    "faerec_weights": (9, 1),
    "best": (14, 12),
}


def build(varied, base=None, varying=None, **flags):
    return config_lib.build(varied, flags, defaults=base, varying=[varying or {}])


def cells(plan, **flags):
    return grid.cells(plan, functools.partial(build, base=plan.base, varying=plan.varying, **flags))


def write(path, text):
    path.write_text(text)
    return str(path)


def test_there_is_a_count_for_each_file():
    assert sorted(CELLS) == grid.known()


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("dataset", ["demo", "yelp"])
def test_the_ready_files_have_the_papers_cells(name, dataset):
    found = cells(grid.read(name), dataset=dataset)
    assert (len(found), len({traced.program(config) for config in found.values()})) == CELLS[name]
    assert {config.seeds for config in found.values()} == {"42,43,44"}
    assert len({config_lib.digest(config) for config in found.values()}) == len(found)


def test_table_1_is_named_by_backbone_and_method():
    found = cells(grid.read("overall"))
    methods = ["none", "cities", "melt", "rlmrec_con", "rlmrec_gen", "llminit", "llmesr"]
    assert list(found)[:8] == [*(f"gru4rec,{method}" for method in methods), "bert4rec,none"]
    assert (found["bert4rec,melt"].start, found["bert4rec,none"].start) == ("@bert4rec,none", "")
    assert (found["sasrec,llminit"].backbone, found["sasrec,llminit"].method) == ("sasrec", "llminit")


def test_several_data_sets_are_the_outermost_axis():
    axes = {"backbone": ["sasrec"], "method": ["none", "melt"]}
    asked = grid.Plan("x", {}, [axes], {("melt", "*"): {"start": "@none"}})
    plan, spread = grid.over_data_sets(asked, "demo, yelp", ",data/other")
    found = cells(plan)
    assert spread == ("dataset", "data_dir")
    assert list(found) == [f"{data},sasrec,{method}" for data in ("demo", "yelp") for method in ("none", "melt")]
    assert {(one.dataset, one.data_dir) for one in found.values()} == {("demo", ""), ("yelp", "data/other")}
    assert found["yelp,sasrec,melt"].start == "@yelp,sasrec,none"  # of the same data set
    assert grid.over_data_sets(asked, "demo") == grid.over_data_sets(asked, "") == (asked, ())


@pytest.mark.parametrize(
    ("grids", "datasets", "folders", "message"),
    [
        ("method=none", "a,a", "", "a name is empty or appears twice"),
        ("method=none", "a,", "", "a name is empty or appears twice"),
        ("method=none", "a,b", "one", "1 folder for 2 data sets; expected one for each"),
        ("dataset=a,b", "a,b", "", "--dataset: is set on the command line and varied by the sweep"),
    ],
)
def test_several_data_sets_that_are_refused(grids, datasets, folders, message):
    with pytest.raises(InputError, match=message):
        grid.over_data_sets(grid.from_flags([grids]), datasets, folders)


def test_figure_3_has_the_papers_own_setting_once():
    found = cells(grid.read("alpha_and_n"))
    assert list(found) == [f"alpha={a}" for a in (1.0, 0.5, 0.1, 0.05, 0.01)] + [f"similar={n}" for n in (2, 6, 14, 18)]
    assert {config.llmesr.similar for name, config in found.items() if name.startswith("alpha")} == {10}


def test_each_ablation_of_the_papers_is_the_whole_but_for_its_switches():
    found = cells(grid.read("ablations"))
    changes = {name: config_lib.difference(found["llmesr"], config) for name, config in found.items()}
    assert {name: [change.split(":")[0] for change in changed] for name, changed in changes.items()} == {
        "llmesr": [],
        "wo-co-view": ["llmesr.views"],
        "wo-se-view": ["llmesr.views"],
        "wo-SD": ["llmesr.alpha"],
        "wo-share": ["llmesr.share"],
        "wo-CA": ["llmesr.cross_attention"],
        "1-layer-adapter": ["llmesr.adapter_layers"],
        "random-init": ["llmesr.collaborative_start"],
    }


def test_faerecs_methods_are_compared_in_its_setting():
    found = cells(grid.read("faerec_overall"), dataset="beauty")
    for config in found.values():
        assert (config.data.batch_size, config.data.max_len, config.loss.ranking) == (256, 50, "bce")
        assert (config.train.monitor, config.train.valid_protocol, config.sasrec.form) == ("N@20", "full", "faerec")
    periods = {name.split(",")[0]: config.faerec.period for name, config in found.items() if config.method == "faerec"}
    assert periods == {"sasrec": 30.0, "fmlprec": 30.0, "lrurec": 15.0}  # of the data set's file


def test_flags_make_a_product_the_first_outermost():
    plan = grid.from_flags(["backbone=gru4rec,sasrec", "llmesr.alpha=0.5,0", "data.num_negatives=3"])
    assert plan.name == "backbone,llmesr.alpha,data.num_negatives"
    found = cells(plan)
    assert list(found) == [f"{b},alpha={a},num_negatives=3" for b in ("gru4rec", "sasrec") for a in (0.5, 0.0)]
    assert found["sasrec,alpha=0.0,num_negatives=3"].llmesr.alpha == 0


def test_what_a_cell_does_not_use_makes_no_cell_and_no_name():
    found = cells(grid.from_flags(["llmesr.alpha=0.1,0.5", "method=none,llmesr"]))
    assert list(found) == ["none", "alpha=0.1,llmesr", "alpha=0.5,llmesr"]


def test_axes_of_one_field_are_told_apart():
    found = cells(
        grid.from_flags(["sasrec.dropout=0.1", "sasrec.blocks=1", "faerec.temperature=1", "loss.temperature=2"])
    )
    assert list(found) == ["dropout=0.1,blocks=1,loss.temperature=2.0"]


def test_values_are_fit_for_a_folder_and_a_name_stands_once():
    axes = {"text": {"a/b c": {"data.max_len": 3}, "a b c": {"data.max_len": 4}}}
    assert list(cells(grid.Plan("x", {}, [{"text": {"a/b c": {"data.max_len": 3}}}]))) == ["a-b-c"]
    with pytest.raises(InputError, match="two different cells 'a-b-c'"):
        cells(grid.Plan("x", {}, [axes]))
    with pytest.raises(InputError, match="a cell '..', which cannot be a folder's name; name"):
        cells(grid.Plan("x", {}, [{"text": {"..": {"data.max_len": 3}}}]))


@settings(max_examples=15)  # a configuration takes a while
@given(
    st.lists(st.sampled_from([0.0, 0.1, 0.5, 1.0]), min_size=1, max_size=3),
    st.lists(st.integers(1, 4), min_size=1, max_size=3),
)
def test_a_product_has_each_pair_once(alphas, widths):
    found = cells(grid.Plan("x", {}, [{"llmesr.alpha": alphas, "data.num_negatives": widths}]))
    got = [(config.llmesr.alpha, config.data.num_negatives) for config in found.values()]
    assert got == list(dict.fromkeys((a, w) for a in alphas for w in widths))


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["llmesr.alpha"], "--grid=llmesr.alpha: is not an axis; expected setting=value,value"),
        (["llmesr.alpa=1"], "--grid=llmesr.alpa is not a setting; did you mean --grid=llmesr.alpha"),
        (["llmesr.alpha=1", "llmesr.alpha=2"], "llmesr.alpha already has an axis; put"),
        (["llmesr.alpha=1,x"], "--grid=llmesr.alpha=1,x: llmesr.alpha is 'x', expected float"),
        (["llmesr.alpha=1,-1"], "llmesr.alpha=-1.0; expected at least 0"),
        (["llmesr.share=maybe"], "llmesr.share is 'maybe', expected bool"),
        (["llmesr.similar=2.5"], "llmesr.similar is '2.5', expected int"),
        (["llmesr.views="], "expected setting=value,value"),
        (["llmesr.views=none"], "llmesr.views='none' is not known; expected one of: both, "),
    ],
)
def test_flags_that_are_refused(texts, message):
    with pytest.raises(InputError) as error:
        cells(grid.from_flags(texts))
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("GRID = []", "AttributeError: module 'own_mine' has no attribute 'GRIDS'; expected GRIDS, a list of"),
        ("GRIDS = [1]", "expected GRIDS, a list of"),
        ("GRIDS = 1 / 0", "ZeroDivisionError: division by zero; expected GRIDS"),
        ("GRIDS = []", "a grid or an axis is empty"),
        ("GRIDS = [{'llmesr.alpha': []}]", "a grid or an axis is empty"),
        ("GRIDS = [{'llmesr.alpa': [1]}]", "llmesr.alpa is not a setting; did you mean llmesr.alpha"),
        ("GRIDS = [{'x': {'a': {'train.epoch': 1}}}]", "train.epoch is not a setting"),
        ("GRIDS = [{'llmesr.alpha': [0.1, 'x']}]", "llmesr.alpha is 'x', expected float"),
        ("BASE = {'train.epochs': 'many'}\nGRIDS = [{'method': ['none']}]", "train.epochs is 'many', expected int"),
        ("GRIDS = [{'x': {'a': {'llmesr.alpha': 1.0}, 'b': 0}}]", "x names 0; expected settings, as in {'wo-SD': "),
        ("BASE = {'epochs': 1}\nGRIDS = [{'method': ['none']}]", "epochs is not a setting; did you mean train.epochs"),
    ],
)
def test_files_that_are_refused(tmp_path, text, message):
    with pytest.raises(InputError) as error:
        grid.read(write(tmp_path / "mine.py", text))
    assert str(error.value).startswith(f"{tmp_path / 'mine.py'}: ") and message in str(error.value)


def test_an_own_file_is_read_by_its_path(tmp_path):
    path = write(tmp_path / "mine.py", "GRIDS = [{'llmesr.alpha': (1, 0.5)}]")
    assert grid.read(path) == grid.Plan("mine", {}, [{"llmesr.alpha": [1, 0.5]}])
    with pytest.raises(InputError, match="--sweep=overal: there is no .*overal.py; expected your own file, or one of "):
        grid.read("overal")


def test_a_cell_may_start_from_another():
    plan = grid.Plan("p", {}, [{"backbone": ["sasrec", "gru4rec"], "method": ["llmesr", "none"], "start": ["@none"]}])
    found = grid.placed(cells(plan), lambda name, config: f"w/{name}")
    assert {name: config.start for name, config in found.items()} == {
        "sasrec,llmesr,from-none": "w/sasrec,none",
        "sasrec,none": "",
        "gru4rec,llmesr,from-none": "w/gru4rec,none",
        "gru4rec,none": "",
    }
    order = [name for names in sweep.programs(found) for name in names]
    assert [name.rpartition(",")[2] for name in order] == ["none", "none", "from-none", "from-none"]


def test_a_cell_that_would_start_from_itself_is_refused():
    plan = grid.Plan("p", {"start": "w/0.1"}, [{"train.learning_rate": [0.1, 0.2]}])
    found = {str(config.train.learning_rate): config for config in cells(plan).values()}
    for name, config in found.items():
        config.workdir = f"w/{name}"
    with pytest.raises(InputError, match="--start=w/0.1: is the folder of a run of this sweep, which would start from"):
        sweep.programs(found)


def test_settings_of_the_two_methods_do_not_tell_their_cells_apart():
    variants = {
        "plain": {"method": "none", "none.width": 64},
        "a": {"method": "llmesr", "start": "@none", "llmesr.alpha": 0.1},
        "b": {"method": "llmesr", "start": "@none", "llmesr.alpha": 0.5},
    }
    found = cells(grid.Plan("p", {}, [{"variant": variants}]))
    assert [config.start for config in found.values()] == ["", "@plain", "@plain"]


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ({"method": ["llmesr"], "start": ["@none"]}, "there is no such cell"),
        ({"method": ["none", "llmesr"], "train.epochs": [1, 2]}, "2 of them"),
    ],
)
def test_a_start_that_names_no_single_cell_is_refused(axes, message):
    variants = {"none": {"method": "none"}, "again": {"method": "none", "none.width": 4}}
    axes = {"variant": {**variants, "l": {"method": "llmesr", "start": "@none"}}} if "2" in message else axes
    with pytest.raises(InputError, match=message):
        cells(grid.Plan("p", {}, [axes]))


def test_what_starts_from_a_cell_that_failed_fails_without_a_try(monkeypatch):
    plan = grid.Plan("p", {}, [{"method": ["none", "llmesr"], "start": ["@none"]}])
    found = grid.placed(cells(plan), lambda name, config: f"w/{name}")
    tried = []

    def fails(names, *_):
        tried.extend(names)
        yield list(names), [InputError("broken")] * len(names)

    monkeypatch.setattr(sweep, "_train", fails)
    outcomes = sweep.run(found)
    assert tried == ["none"]
    assert str(outcomes["llmesr,from-none"]) == "starts from none, which failed"
