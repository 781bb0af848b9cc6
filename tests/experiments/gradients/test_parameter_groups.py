"""Every parameter of every method and backbone has a group, by one rule."""

import jax
import jax.numpy as jnp
import pytest
import tiny

from llmesr_jax.experiments.gradients import parameter_groups
from llmesr_jax.models import backbones
from llmesr_jax.training import steps

LLMESR = {"collaborative table", "adapter", "cross-attention", "encoder"}
WANTED = {
    ("none", ()): {"collaborative table", "encoder"},
    ("llminit", ()): {"collaborative table", "encoder"},
    ("alphafuse", ()): {"collaborative table", "semantic table", "encoder"},
    ("rlmrec_con", ()): {"collaborative table", "adapter", "encoder"},
    ("llmesr", ()): LLMESR,
    ("llmesr", (("share", False),)): LLMESR,
    ("llmesr", (("freeze_semantic", False),)): LLMESR | {"semantic table"},
    ("llmesr", (("views", "semantic"),)): {"adapter", "encoder"},
    ("faerec", ()): {"collaborative table", "adapter", "encoder", "gate", "norm"},
}


def shapes(backbone, method, **changes):
    case = tiny.case(backbone, method, **changes)
    example = lambda d, t: steps.example_batch(case.epochs.plan, d, t)  # noqa: E731
    batch = jax.eval_shape(example, case.data, case.tables)
    return jax.eval_shape(case.model.init, jax.random.key(0), case.tables, batch)


@pytest.mark.parametrize("method, changes", WANTED)
def test_the_parts_of_each_method(method, changes):
    assert set(parameter_groups.names(shapes("sasrec", method, **dict(changes)))) == WANTED[method, changes] | {"all"}


@pytest.mark.parametrize("backbone", backbones.PLUGINS.names())
def test_a_backbones_parameters_are_the_encoder(backbone):
    params = shapes(backbone, "none")
    for path, _ in jax.tree_util.tree_flatten_with_path(params)[0]:
        assert parameter_groups.group_of(path) == ("encoder" if path[0].key == "backbone" else "collaborative table")


def test_a_module_of_a_fork_has_its_own_name_and_one_inside_it_keeps_its_part():
    tree = {"wrapped": {"table": {"items": 0}, "backbone": {"table": 0}}, "prior": {"kernel": 0}}
    assert parameter_groups.names(tree) == ["all", "collaborative table", "encoder", "prior"]


def test_inner_products_by_hand():
    a = {"table": {"items": jnp.array([[1.0, 2.0]])}, "adapter": {"kernel_0": jnp.array([3.0])}}
    b = {"table": {"items": jnp.array([[5.0, -1.0]])}, "adapter": {"kernel_0": jnp.array([-2.0])}}
    found = parameter_groups.inner(a, b)
    assert {name: float(x) for name, x in found.items()} == {"all": -3, "collaborative table": 3, "adapter": -6}
    only = parameter_groups.only(a, "adapter")
    assert (
        float(parameter_groups.inner(only, only)["all"]) == 9
        and float(parameter_groups.inner(only, only)["collaborative table"]) == 0
    )
