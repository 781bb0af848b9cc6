"""From a configuration to the tables that its method makes: what the method's file must have for that."""

import importlib.util

import numpy as np
import pytest
import tiny

from llmesr_jax.core.axes import ITEM, TABLES, Table
from llmesr_jax.core.errors import InputError
from llmesr_jax.models import recommender
from llmesr_jax.models.methods import none
from llmesr_jax.models.types import Needs
from llmesr_jax.training import config as config_lib
from llmesr_jax.training import method_tables


@pytest.fixture
def config(tmp_path):
    return config_lib.build({"method": "none", "semantic.cache_dir": str(tmp_path / "cache")})


def test_tables_are_made_of_the_corpus_and_the_settings(config, monkeypatch):
    corpus = tiny.ragged(3)
    monkeypatch.setattr(none, "needs", lambda config: Needs(own={"mood": Table(ITEM)}))
    made = lambda corpus, config: {"mood": np.full(corpus.num_items + 2, float(config.width))}  # noqa: E731
    monkeypatch.setattr(none, "tables", made, raising=False)
    found = method_tables.own(config, corpus).arrays
    np.testing.assert_array_equal(found["mood"], np.full(corpus.num_items + 2, 128, np.float32), strict=True)


def test_a_method_without_tables_of_its_own_makes_none(config):
    assert method_tables.own(config, tiny.ragged(3)).arrays == {}


SOURCE = """
from numpy import ones

SHARE, OTHER = 0.5, 1.0  # how much
WIDE: int = 4

def scaled(x):
    return x * SHARE

def tables(corpus, config):
    '''Ones.'''
    return {"mood": scaled(ones(WIDE))}

def terms():
    return OTHER
"""


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        ("# how much", "# how little", True),
        ("'''Ones.'''", "", True),
        ("return OTHER", "return 2 * OTHER", True),
        ("x * SHARE", "x / SHARE", False),
        ("SHARE, OTHER = 0.5", "SHARE, OTHER = 0.6", False),
        ("int = 4", "int = 5", False),
        ("scaled(ones(WIDE))", "ones(WIDE)", False),
    ],
)
def test_the_code_of_tables_is_what_they_use_of_their_file(tmp_path, old, new, same):
    """Another formula makes another table, which is no rounding; a comment or a term of the loss does not."""
    digests = []
    for name, text in (("before", SOURCE), ("after", SOURCE.replace(old, new))):
        (tmp_path / f"{name}.py").write_text(text)
        spec = importlib.util.spec_from_file_location(name, tmp_path / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        digests.append(method_tables.source_of(module))
    assert (digests[0] == digests[1]) == same and old in SOURCE


def test_tables_that_nothing_makes_are_refused(config, monkeypatch):
    monkeypatch.setattr(none, "needs", lambda config: Needs(own={"mood": Table(ITEM)}))
    with pytest.raises(InputError, match=r"method 'none': its needs name own tables \(mood\).*no function `tab"):
        method_tables.own(config, tiny.ragged(3))


@pytest.mark.parametrize("name", TABLES)
def test_a_name_that_all_methods_share_is_refused(name):
    with pytest.raises(InputError, match=f"table {name}: the method's own table has the name"):
        recommender.kinds(Needs(own={name: Table()}))
    assert recommender.kinds(Needs(frozenset({name}))) == {name: TABLES[name]}
