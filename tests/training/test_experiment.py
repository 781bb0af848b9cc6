"""From a configuration to a run's parts, and the folder that a run owns."""

import json

import commands
import jax
import numpy as np
import pytest

from llmesr_jax.core.errors import InputError
from llmesr_jax.training import config as config_lib
from llmesr_jax.training import experiment, loop, run_lock


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return commands.write_data(tmp_path_factory.mktemp("data") / "tiny")


def configure(data, workdir, **changes):
    flags = {"dataset": "tiny", "data_dir": str(data), "workdir": str(workdir), "method": "none", "data.max_len": 8}
    return config_lib.build(flags={**flags, **changes})


@pytest.fixture
def prepared(data, tmp_path):
    return experiment.prepare(configure(data, tmp_path / "w"))


def test_tables_are_those_the_method_needs(data, tmp_path):
    changes = {"method": "llmesr", "semantic.tfidf_width": 8, "llmesr.similar": 3, "llmesr.width": 4, "seeds": "5,6"}
    found = experiment.prepare(configure(data, tmp_path / "w", **changes))
    assert {name: table.shape for name, table in found.tables.items()} == {
        "item_llm": (152, 8),
        "item_pca": (152, 4),
        "similar_users": (60, 3),
    }
    assert found.seeds == (5, 6)
    assert found.epochs.plan.similar == 3
    assert not (tmp_path / "w").exists()


def test_few_items_are_told_of(tmp_path):
    for items in (102, 101):
        data = commands.write_data(tmp_path / str(items), items=items)
        told = experiment.prepare(configure(data, tmp_path / "w")).describe()
        assert ("sampled ranks among all items" in told) == (items == 101)


def test_raw_ids_that_do_not_fit_are_refused_before_training(tmp_path):
    data = commands.write_data(tmp_path / "data")
    (data / "item_ids.txt").write_text("a\nb\n")
    with pytest.raises(InputError, match="item_ids.txt: has 2 ids, but inter.txt has 150 items"):
        experiment.prepare(configure(data, tmp_path / "w"))


def test_a_plain_backbone_needs_no_tables(prepared):
    assert prepared.tables == {}
    assert prepared.recommender.sizes.num_items == prepared.corpus.num_items == 150


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss.ranking": "softmax"}, "loss.ranking=softmax touches every item"),
        ({"train.average": 0.9}, "train.average moves every row"),
    ],
)
def test_what_moves_every_row_does_not_go_with_touched_rows(data, tmp_path, changes, message):
    changes |= {"train.table_updates": "touched"}
    with pytest.raises(InputError, match=message):
        experiment.prepare(configure(data, tmp_path / "w", **changes))


def test_too_few_similar_users_are_told_before_any_table_is_made(data, tmp_path, monkeypatch):
    monkeypatch.delattr(experiment.tables_lib, "prepare")
    for changes in ({"llmesr.similar": 60}, {"llmesr.similar": 4, "semantic.num_similar": 3}):
        with pytest.raises(
            InputError, match="tiny: the method needs (60|4) similar users per user, but only (59|3) are kept"
        ):
            experiment.prepare(configure(data, tmp_path / "w", method="llmesr", **changes))


def test_users_whose_embedding_is_zero_are_counted_and_too_many_are_refused(tmp_path):
    data, changes = commands.write_data(tmp_path / "tiny"), {"method": "llmesr", "llmesr.similar": 4}
    (data / "items.jsonl").unlink()  # with texts, zeros are refused
    rng = np.random.default_rng(0)
    items, users = rng.normal(size=(150, 6)).astype(np.float32), rng.normal(size=(60, 6)).astype(np.float32)
    users[:3] = 0
    np.save(data / "item_emb.npy", items)
    np.save(data / "user_emb.npy", users)
    config = configure(data, tmp_path / "w", **changes, **{"llmesr.width": 4})
    told = experiment.prepare(config).describe()
    assert "; 3 users have an embedding of zeros, so they have no similar users and are not distilled" in told
    users[4:] = 0  # one is left, whom nobody can teach
    np.save(data / "user_emb.npy", users)
    with pytest.raises(
        InputError, match="tiny: the method needs 4 similar users per user, but only 0 exist: the embedd"
    ):
        experiment.prepare(config)


def with_table(prepared, table, recipe):
    """The experiment with another table."""
    return experiment.assemble(prepared.config, prepared.corpus, {"item_llm": table}, recipe)


def test_identity_tells_data_and_tables_apart(prepared):
    same = prepared._replace(config=prepared.config.copy_and_resolve_references())
    assert experiment.identity_changes(prepared.identity(), same) == []
    other = with_table(prepared, np.zeros((2, 2), np.float32), "0123456789")
    assert [change.split(":")[0] for change in experiment.identity_changes(prepared.identity(), other)] == [
        "recipe",
        "tables",
    ]


def test_tables_of_one_recipe_may_be_rounded_otherwise(prepared, caplog):
    elsewhere = with_table(prepared, np.full((2, 2), 1e-7, np.float32), prepared.recipe)
    with caplog.at_level("WARNING"):
        assert experiment.identity_changes(prepared.identity(), elsewhere) == []
    assert "the tables were computed on another processor" in caplog.text


def test_open_then_read(prepared):
    folder = experiment.open_workdir(prepared)
    config, identity = experiment.read_config(folder)
    assert config.to_dict() == prepared.config.to_dict()
    assert identity == prepared.identity()
    assert [path.name for path in folder.iterdir()] == ["config.json"]


def test_one_command_at_a_time_trains_a_run(data, tmp_path):
    folder, small = tmp_path / "w", {"backbone": "gru4rec", "none.width": 4, "train.epochs": 1}
    prepared = experiment.prepare(configure(data, folder, **small))
    with run_lock.alone(folder):  # as another command, which has not yet written anything else
        with pytest.raises(InputError, match=f"{folder}: another command is training this run; wait until it ends"):
            loop.train(prepared)
        assert [path.name for path in folder.iterdir()] == ["lock"]
    (folder / "lock").touch()  # what a killed command leaves locks nothing
    with jax.numpy_dtype_promotion("standard"):  # which optax needs
        assert loop.train(prepared)["epochs"] == 1
    assert not (folder / "lock").exists()


def test_a_run_goes_on_with_other_epochs_in_the_same_folder(prepared, data):
    folder = experiment.open_workdir(prepared)
    experiment.open_workdir(experiment.prepare(configure(data, folder, **{"train.epochs": 7, "train.patience": 3})))
    assert experiment.read_config(folder)[0].train.epochs == 7


def test_a_folder_of_another_run_is_left_as_it_is(prepared, data):
    folder = experiment.open_workdir(prepared)
    before = (folder / "config.json").read_bytes()
    other = experiment.prepare(configure(data, folder, seeds="1", **{"train.learning_rate": 0.5}))
    with pytest.raises(InputError) as error:
        experiment.open_workdir(other)
    assert str(error.value) == (
        f"{folder}: belongs to another run (seeds: '42' -> '1'; train.learning_rate: 0.001 -> 0.5); "
        "choose another --workdir, or delete the folder"
    )
    assert (folder / "config.json").read_bytes() == before


def test_many_differences_make_a_short_line(prepared, data):
    folder = experiment.open_workdir(prepared)
    changes = {f"data.{name}": 3 for name in ("batch_size", "max_len", "num_negatives", "buckets")}
    other = experiment.prepare(configure(data, folder, seeds="1", preset="release", **changes))
    count = len(config_lib.difference(prepared.config, other.config))
    with pytest.raises(InputError, match=rf"; and {count - 4} more\); choose another --workdir") as error:
        experiment.check_workdir(other)
    assert str(error.value).count(" -> ") == 4


def test_checking_writes_nothing(prepared, tmp_path):
    experiment.check_workdir(prepared)
    assert not (tmp_path / "w").exists()
    (tmp_path / "w").mkdir()
    experiment.check_workdir(prepared)
    (tmp_path / "w" / "mine").touch()
    with pytest.raises(InputError, match="w: already exists and is not the folder of a run"):
        experiment.check_workdir(prepared)


def test_an_unwritable_folder_is_named(prepared, tmp_path, monkeypatch):
    monkeypatch.setattr(experiment.os, "access", lambda path, mode: path != tmp_path)
    with pytest.raises(InputError, match=f"{tmp_path}: cannot be written to; check its permissions"):
        experiment.check_workdir(prepared)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "config.json: cannot be read (No such file or directory); expected the folder of a run"),
        ("{", "config.json: is not a run's configuration (JSONDecodeError: "),
        ("[]", "config.json: is not a run's configuration (TypeError: "),
        ('{"config": {}}', "config.json: is not a run's configuration (KeyError: 'data')"),
        ('{"config": {}, "data": []}', "config.json: is not a run's configuration (AttributeError: "),
        ('{"format": 2, "config": {"colour": 1}, "data": {}}', "config.json: colour is not a setting"),
        (b"\xff", "config.json: is not a run's configuration (UnicodeDecodeError: "),
    ],
)
def test_a_folder_without_a_sound_configuration(tmp_path, content, message):
    if content is not None:
        (tmp_path / "config.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError) as error:
        experiment.read_config(tmp_path)
    assert str(error.value).startswith(f"{tmp_path}/{message}")


def test_a_run_of_another_version(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"config": {"train": {"watch": "N@10"}}, "data": {}}))
    wanted = f"{tmp_path}: is a run of another version of llmesr-jax (format 1, expected 2); train again in a new"
    with pytest.raises(InputError) as error:
        experiment.read_config(tmp_path)
    assert str(error.value).startswith(wanted)
