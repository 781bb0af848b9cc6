"""The real settings: data sets' files, presets, files of one's own; what each method and backbone gets."""

import dataclasses
import json
import types

import pytest

from llmesr_jax.core.errors import InputError
from llmesr_jax.core.knobs import knob
from llmesr_jax.models import methods
from llmesr_jax.training import config, schema


def test_every_setting_has_help_and_a_section_builds_from_its_defaults():
    for key, setting in schema.settings().items():
        assert setting.doc.strip() and "\n" not in setting.doc, key
    one = config.default()
    for name, cls in schema.sections().items():
        own = {"own": config.section(one, one.loss.ranking)} if name == "loss" else {}
        assert config.section(one, name) == cls(**own)


def test_a_run_of_before_a_setting_was_renamed_is_read():
    """`loss.calibration` and `loss.log_q` have moved to the files of their losses; `cities.items` has another name."""
    tree = config.build({"loss.ranking": "gbce"}).to_dict()
    del tree["gbce"], tree["sampled_softmax"]
    tree["loss"] |= {"calibration": 0.25, "log_q": True}
    tree["cities"]["items"] = tree["cities"].pop("head_items") + 1
    again = config.from_json(json.dumps(tree))
    assert again.cities.head_items == config.default().cities.head_items + 1
    assert (again.gbce.calibration, again.sampled_softmax.log_q) == (0.25, True)
    assert config.section(again, "loss").settings.calibration == 0.25


@pytest.mark.parametrize(
    "plugin, field, taken", [("own", "items", "items"), ("own", "get", "get"), ("update", "width", "update")]
)
def test_a_setting_that_configurations_have_a_method_for_is_refused(monkeypatch, plugin, field, taken):
    """Of config.own.items nobody could tell the setting from the method; the command line would set neither."""
    settings_of = dataclasses.make_dataclass("Config", [(field, int, knob(1, "a number"))], frozen=True)
    own = types.SimpleNamespace(kind="method", modules=lambda: {plugin: types.SimpleNamespace(Config=settings_of)})
    monkeypatch.setattr(schema, "chosen", lambda: {"method": own})
    schema.sections.cache_clear()
    try:
        with pytest.raises(InputError, match=f"method '{plugin}': '{taken}' cannot be the name"):
            schema.sections()
    finally:
        schema.sections.cache_clear()


@pytest.mark.parametrize("preset", config.PRESETS)
@pytest.mark.parametrize("dataset", config.datasets())
def test_every_file_of_configs_holds_known_settings(dataset, preset):
    one = config.build({"dataset": dataset, "preset": preset})
    assert (one.dataset, one.preset) == (dataset, preset)


def test_resumable_settings_exist():
    assert config.RESUMABLE <= set(schema.settings())


def test_forkme_makes_three_changes():
    forkme = config.configs_module("forkme")

    start = config.flatten(config.default())
    changed = {key: value for key, value in config.flatten(forkme.get_config()).items() if value != start[key]}
    assert len(changed) == 3
    assert changed.items() <= config.flatten(config.build(base=forkme.get_config())).items()


@pytest.mark.parametrize("name", [*config.datasets(), *config.PRESETS, "faerec"])
def test_every_rule_of_a_file_names_a_method_and_holds_known_settings(name):
    rules = getattr(config.configs_module(name), "FOR", {})
    for (method, *_), values in rules.items():
        assert method in ("*", *methods.PLUGINS.names())
        schema.checked(values, name)


def test_faerec_has_its_papers_setting_where_the_paper_has_one():
    def of(**flags):
        one = config.build(flags={"method": "faerec", **flags})
        return one.data.max_len, one.data.batch_size, one.train.monitor_after, one.faerec.period, one.faerec.w_min

    assert of(dataset="beauty") == (50, 256, 60, 30.0, 0.9)
    assert of(dataset="grocery") == (50, 256, 60, 20.0, 0.7)
    assert of(dataset="yelp") == (50, 256, 50, 25.0, 0.3)
    assert of(dataset="yelp", backbone="fmlprec")[2] == 60
    assert of(dataset="yelp", backbone="lrurec")[2] == 45
    assert of(dataset="grocery", backbone="lrurec")[2] == 50
    assert of(dataset="beauty", backbone="lrurec")[2] == 60
    assert of(dataset="yelp", method="llmesr")[:3] == (200, 128, 0)
    for preset, scores, seen in (("paper", "fused", "hidden"), ("release", "id", "zero")):
        one = config.build(flags={"dataset": "beauty5", "method": "faerec", "preset": preset})
        assert (one.faerec.training_scores, one.train.seen_items, one.loss.ranking) == (scores, seen, "bce")
        assert (one.sasrec.form, one.sasrec.heads, one.sasrec.causal, one.sasrec.mask_padding) == (
            "faerec",
            2,
            True,
            True,
        )
        other = config.build(flags={"dataset": "beauty5", "method": "llmesr", "preset": preset})
        assert (other.train.seen_items, other.data.avoid, other.sasrec.form) == ("hidden", "training", "llmesr")


def test_a_preset_may_choose_method_and_backbone_and_what_is_given_beats_it():
    one = config.build(flags={"dataset": "beauty", "preset": "best"})
    assert (one.method, one.backbone, one.sasrec.form) == ("faerec", "sasrec", "faerec")
    assert (one.data.batch_size, one.train.monitor_after, one.faerec.period) == (128, 0, 30.0)  # not those of the data
    other = config.build(flags={"dataset": "beauty", "preset": "best", "method": "none", "backbone": "gru4rec"})
    assert (other.method, other.backbone, other.loss.ranking) == ("none", "gru4rec", "sampled_softmax")


def test_best_is_one_configuration_for_every_data_set():
    """But for what says which data they are."""
    sections = ("data", "loss", "train", "faerec", "sasrec")
    found = []
    for name in config.datasets():
        flat = config.flatten(config.build(flags={"dataset": name, "preset": "best"}))
        found.append({key: value for key, value in flat.items() if key.partition(".")[0] in sections})
    assert all(one == found[0] for one in found)


def test_an_own_file_sets_the_patience_of_faerec_on_grocery_to_its_default():
    base = config.default()
    flags = {"dataset": "grocery", "method": "faerec"}
    assert config.build(flags=flags, base=base).train.patience == 10  # as FAERec's setting has it
    base.train.patience = 20
    assert config.build(flags=flags, base=base).train.patience == 20


@pytest.mark.parametrize(
    "backbone, dropout, first", [("sasrec", 0.5, 200), ("fmlprec", 0.5, 300), ("lrurec", 0.4, 100)]
)
def test_faerecs_base_has_the_dropout_and_the_first_monitored_epoch_of_its_logs(backbone, dropout, first):
    faerec = config.configs_module("faerec")

    def of(method, overrides=None):
        flags = {"dataset": "yelp", "method": method, "backbone": backbone}
        one = config.build(overrides, flags, faerec.get_config(), varying=[faerec.FOR])
        return one[backbone].dropout, one.train.monitor_after, one.none.table_start

    assert of("none") == (dropout, first, "normal")
    assert of("none", {"train.monitor_after": 7, "none.table_start": "xavier"}) == (dropout, 7, "xavier")
    assert of("llmesr") == (0.4, 60, "xavier")
    assert of("faerec")[:2] == (0.4, {"sasrec": 50, "fmlprec": 60, "lrurec": 45}[backbone])


def test_what_varies_with_the_method_beats_a_sweeps_defaults_and_gives_way_to_the_sweep():
    varying = [{("none",): {"data.max_len": 9}, ("*", "gru4rec"): {"data.max_len": 8}}]
    varied = lambda **more: {key.replace("__", "."): value for key, value in more.items()}  # noqa: E731

    def length(defaults, **more):
        flags = {"dataset": "demo", "method": "none"}
        return config.build(varied(**more), flags, defaults=defaults, varying=varying).data.max_len

    assert length({"data.max_len": 7}) == 9
    assert length({"backbone": "gru4rec"}) == 8
    assert length({"data.max_len": 7}, data__max_len=6) == 6


def test_faerecs_setting_is_one_file_for_every_method():
    faerec = config.configs_module("faerec")

    ours, own = (
        config.build(
            flags={"dataset": "beauty", "method": method}, base=faerec.get_config() if method == "none" else None
        )
        for method in ("none", "faerec")
    )
    for key in ("data.max_len", "data.batch_size", "loss.ranking", "train.monitor", "train.patience", "sasrec.form"):
        assert config.flatten(ours)[key] == config.flatten(own)[key], key


def test_settings_take_names_sections_and_keys():
    """A section as {field: value}; keywords beat the mapping; what is not given is as data set and preset want it."""
    one = config.settings({"train.epochs": 7, "train.patience": 2}, dataset="demo", preset="best", train={"epochs": 3})
    assert (one.train.epochs, one.train.patience, one.method, one.data.max_len) == (3, 2, "faerec", 50)
    same = config.build({"train.epochs": 3, "train.patience": 2}, {"dataset": "demo", "preset": "best"})
    assert config.flatten(one) == config.flatten(same)


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ({"metod": "none"}, "config: metod is not a setting; did you mean method?"),
        ({"train": {"epohs": 3}}, "config: train.epohs is not a setting; did you mean train.epochs?"),
        ({"trian": {"epochs": 3}}, "config: trian.epochs is not a setting; did you mean train.epochs?"),
        ({"train": 3}, "config: train is not a setting; did you mean train.epochs"),
        ({"dataset": "fashon"}, "did you mean fashion?"),
        ({"preset": "bset"}, "did you mean best?"),
        ({"loggers": "tensorboard,wandd"}, "did you mean wandb?"),
        ({"train": {"epochs": "3"}}, "train.epochs is '3', expected int"),
    ],
)
def test_settings_answer_a_wrong_name_with_the_nearest(named, message):
    with pytest.raises(InputError) as refused:
        config.settings(**named)
    assert message in str(refused.value) and "\n" not in str(refused.value)


def test_a_run_is_read_where_plug_ins_that_it_did_not_use_are_no_longer_installed():
    tree = config.build({"method": "none"}).to_dict()
    tree["hinge"] = {"margin": 1.0}
    assert config.flatten(config.from_json(json.dumps(tree))) == config.flatten(config.build({"method": "none"}))
    tree["loss"]["ranking"] = "hinge"
    with pytest.raises(
        InputError, match="^w/config.json: loss 'hinge' is not known; .*; install the package that has this plug-in$"
    ):
        config.from_json(json.dumps(tree), "w/config.json")
