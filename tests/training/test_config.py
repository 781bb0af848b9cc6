"""Layers, checks, comparison and storage of the configuration, on a small made-up schema."""

import copy
import dataclasses
import sys
import types
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ml_collections import ConfigDict

from llmesr_jax.core.errors import InputError
from llmesr_jax.core.knobs import knob
from llmesr_jax.core.plugins import Plugins
from llmesr_jax.models import losses
from llmesr_jax.training import config, schema

CONFIGS = config.configs().__name__  # where presets are found: `llmesr_jax.configs` once it is installed


@dataclasses.dataclass(frozen=True)
class Data:
    max_len: int = knob(200, "maximum length of a sequence")
    layout: Literal["bucketed", "padded"] = knob("bucketed", "layout of a batch")
    cap: int | None = knob(None, "no limit if None")
    sizes: tuple[int, ...] = knob((1, 2), "sizes")


@dataclasses.dataclass(frozen=True)
class Train:
    epochs: int = knob(200, "most epochs", least=1)
    patience: int = knob(20, "epochs without a better one")
    optimizer: str = knob("auto", "how parameters move")
    learning_rate: float = knob(1e-3, "step size")
    shuffle: bool = knob(True, "a new order each epoch")
    order: str = knob("random", "of the users", choices=("random", "file"))
    rate: float = knob(0.5, "a share", least=0, most=1)


@dataclasses.dataclass(frozen=True)
class Plugin:
    width: int = knob(64, "width")


@pytest.fixture
def small(monkeypatch):
    """The made-up schema, a data set `demo` and the two presets, in place of the project's."""
    sections = {
        "": schema.RunConfig,
        "data": Data,
        "train": Train,
        "sasrec": Plugin,
        "gru4rec": Plugin,
        "llmesr": Plugin,
    }
    monkeypatch.setattr(schema, "sections", lambda: sections)
    plugins = {"backbone": ["gru4rec", "sasrec"], "method": ["llmesr", "none"], "optimizer": [], "surgery": []}
    plugins |= {losses.PLUGINS.kind: []}
    monkeypatch.setattr(Plugins, "names", lambda self: plugins[self.kind])
    overrides = {"demo": {"data.max_len": 50, "train.epochs": 30}, "paper": {"train.epochs": 31}, "release": {}}
    for name, values in overrides.items():
        monkeypatch.setitem(sys.modules, f"{CONFIGS}.{name}", types.SimpleNamespace(OVERRIDES=values))


def test_default_holds_every_setting(small):
    assert config.flatten(config.default()) == {key: s.default for key, s in schema.settings().items()}
    assert config.default().data.max_len == 200 and config.default().dataset == "demo"


def test_layers_later_beats_earlier(small):
    base = config.default()
    base.sasrec.width = 8
    base.train.epochs = 32
    one = config.build()
    assert (one.data.max_len, one.train.epochs, one.train.patience) == (50, 31, 20)  # data set, preset, default
    assert config.build(base=base).train.epochs == 32
    assert config.build({"train.epochs": 33}, base=base).train.epochs == 33
    both = config.build({"train.epochs": 33, "sasrec.width": 9}, {"train.epochs": 34}, base)
    assert (both.train.epochs, both.sasrec.width, both.data.max_len) == (34, 9, 50)


SETS_THE_DEFAULT = {
    "an attribute": lambda c: setattr(c.train, "epochs", 200),
    "an item": lambda c: c["train"].__setitem__("epochs", 200),
    "update": lambda c: c.update({"train": {"epochs": 200}}),
    "update of the section": lambda c: c.train.update(epochs=200),
    "a flattened dict": lambda c: c.update_from_flattened_dict({"train.epochs": 200}),
    "a whole section": lambda c: setattr(c, "train", {**c.train.to_dict()}),
    "unlocked": lambda c: c.unlocked().__enter__().train.__setattr__("epochs", 200),
}


@pytest.mark.parametrize("how", SETS_THE_DEFAULT)
@pytest.mark.parametrize("copied", [lambda c: c, copy.deepcopy, lambda c: c.copy_and_resolve_references()])
def test_what_an_own_file_sets_counts_even_where_it_is_the_default(small, how, copied):
    base = config.default()
    SETS_THE_DEFAULT[how](base)
    one = config.build(base=copied(base))
    assert one.train.epochs == 200 and one.data.max_len == 50  # the preset says 31; the data set's file 50
    assert config.build(base=config.default()).train.epochs == 31
    assert type(one.train) is ConfigDict


def test_a_config_dict_of_the_files_own_counts_where_it_holds_the_changes_alone(small):
    assert config.build(base=ConfigDict({"train": {"epochs": 200}})).train.epochs == 200
    whole = config.from_json(config.to_json(config.default()))  # every setting: what differs counts
    whole.train.patience = 21
    one = config.build(base=whole)
    assert (one.train.epochs, one.train.patience) == (31, 21)


def test_data_set_and_preset_are_taken_from_the_layer_that_wins(small):
    assert config.build({"preset": "release"}).train.epochs == 30
    assert config.build({"preset": "release"}, {"preset": "paper"}).train.epochs == 31
    assert config.build(flags={"dataset": "other", "data_dir": "anywhere"}).data.max_len == 200


def test_a_file_may_have_settings_for_a_method_a_backbone_or_both(small, monkeypatch):
    rules = {
        ("none", "*"): {"train.epochs": 7},
        ("none", "gru4rec"): {"train.epochs": 8},
        ("*", "gru4rec"): {"data.max_len": 9},
    }
    file = types.SimpleNamespace(OVERRIDES={"data.max_len": 50}, FOR=rules)
    monkeypatch.setitem(sys.modules, f"{CONFIGS}.demo", file)
    monkeypatch.setitem(sys.modules, f"{CONFIGS}.paper", types.SimpleNamespace(OVERRIDES={}))
    got = {}
    for method, backbone in (("llmesr", "sasrec"), ("none", "sasrec"), ("none", "gru4rec"), ("llmesr", "gru4rec")):
        one = config.build(flags={"method": method, "backbone": backbone})
        got[method, backbone] = one.train.epochs, one.data.max_len
    assert list(got.values()) == [(200, 50), (7, 50), (8, 9), (200, 9)]
    assert config.build({"train.epochs": 3}, {"method": "none"}).train.epochs == 3


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"train.epoch": 3}, "train.epoch is not a setting; did you mean train.epochs?"),
        ({"trian.epochs": 3}, "did you mean train.epochs?"),
        ({"epochs": 3}, "did you mean train.epochs?"),
        ({"data": 3}, "did you mean data.max_len"),
        ({"zzz": 3}, "--helpfull lists them all"),
        ({"train.epochs": 3.5}, "train.epochs is 3.5, expected int"),
        ({"train.epochs": True}, "train.epochs is True, expected int"),
        ({"train.shuffle": 1}, "expected bool"),
        ({"train.learning_rate": float("nan")}, "expected a finite number"),
        ({"data.layout": "square"}, "expected one of 'bucketed', 'padded'"),
        ({"data.sizes": (1, "x")}, r"expected tuple\[int, ...\]|expected int"),
        ({"train.epochs": 0}, "train.epochs=0; expected at least 1"),
        ({"train.rate": 2}, "train.rate=2.0; expected at most 1"),
        ({"train.order": "best"}, "train.order='best' is not known; expected one of: random, file"),
        (
            {"dataset": "bueaty"},
            "data set 'bueaty' is not known; expected one of: beauty, beauty5, demo, fashion, grocery, ml-1m, yelp; or",
        ),
        ({"dataset": "../x", "data_dir": "y"}, "data set '../x': is not a valid name; expected letters"),
        ({"preset": "papre"}, "preset 'papre' is not known; expected one of: paper, release"),
        ({"backbone": "sasrek"}, "backbone 'sasrek' is not known; expected one of: gru4rec, sasrec"),
        ({"method": "lmesr"}, "method 'lmesr' is not known; expected one of: llmesr, none"),
        ({"seeds": "42,x"}, "seeds '42,x': are not valid; expected integers"),
        ({"seeds": ""}, "seeds '': are not valid; expected integers"),
        ({"seeds": "42,042"}, "a seed appears twice"),
        ({"seeds": "4294967296"}, "expected integers from 0 to 2147483647"),
    ],
)
def test_a_mistake_is_one_line_that_says_what_was_wanted(small, overrides, message):
    with pytest.raises(InputError, match=message) as caught:
        config.build(overrides)
    assert "\n" not in str(caught.value)


def test_a_prepared_data_set_is_suggested(small, tmp_path, monkeypatch):
    (tmp_path / "data" / "my-shop").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="did you mean my-shop"):
        config.build({"dataset": "myshop"})


def test_a_mistake_in_a_file_names_the_file(small, monkeypatch):
    monkeypatch.setitem(sys.modules, f"{CONFIGS}.paper", types.SimpleNamespace(OVERRIDES={"sasrec.widht": 1}))
    with pytest.raises(InputError, match=r"configs/paper.py: sasrec.widht is not a setting; did you mean sasrec.width"):
        config.build()


def test_section_is_the_frozen_dataclass(small):
    one = config.build({"data.cap": 7, "data.sizes": [3], "train.learning_rate": 1})
    assert config.section(one, "data") == Data(max_len=50, cap=7, sizes=(3,))
    assert config.section(one, "train") == Train(epochs=31, learning_rate=1.0)
    assert type(config.section(one, "train").learning_rate) is float
    assert config.section(one, "") == schema.RunConfig()


def test_section_refuses_an_unknown_key(small):
    one = config.build()
    with one.unlocked():
        one.train.epohcs = 3
    with pytest.raises(InputError, match="train.epohcs is not a setting; did you mean train.epochs"):
        config.section(one, "train")


def test_none_default_keeps_its_type(small):
    assert config.default().data.cap is None
    assert config.default().data.get_type("cap") is int


def test_seed_list(small):
    assert config.seed_list(config.build({"seeds": "42, 43,7"})) == (42, 43, 7)


def test_what_may_change_when_a_run_is_continued(small):
    old = config.build()
    longer = config.build({"train.epochs": 300, "train.patience": 50, "workdir": "elsewhere", "gru4rec.width": 1})
    assert config.difference(old, longer) == []
    assert config.digest(old) == config.digest(longer)


def test_difference_names_each_key(small):
    old, new = config.build(), config.build({"sasrec.width": 8, "seeds": "1"})
    assert config.difference(old, new) == ["sasrec.width: 64 -> 8", "seeds: '42' -> '1'"]
    assert config.digest(old) != config.digest(new)


@given(
    st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.none() | st.integers(), st.lists(st.integers())
)
def test_json_round_trip(max_len, rate, cap, sizes):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(schema, "sections", lambda: {"": schema.RunConfig, "data": Data, "train": Train})
        one = config.default()
        one.data.max_len, one.data.cap, one.data.sizes, one.train.learning_rate = max_len, cap, tuple(sizes), rate
        again = config.from_json(config.to_json(one))
        assert config.flatten(again) == config.flatten(one)
        assert config.to_json(again) == config.to_json(one)


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "c.json: is not JSON"), ("[]", "found a list"), ('{"train": {"x": 1}}', "c.json: train.x is not a setting")],
)
def test_from_json_refuses(small, text, message):
    with pytest.raises(InputError, match=message):
        config.from_json(text, "c.json")


def test_describe_has_a_line_for_every_setting(small):
    lines = config.describe().splitlines()
    assert "--config.data.max_len (200): maximum length of a sequence" in lines
    assert len(lines) == len(schema.settings())


# From here on: the project's own schema and files.
