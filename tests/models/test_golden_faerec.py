"""FAERec in our `release` preset against the authors' released models: outputs and every gradient, in 64-bit."""

import golden_faerec
import golden_release
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden_files import FOLDER, assert_met, cases

from llmesr_jax.models import backbones
from llmesr_jax.models.methods import faerec
from llmesr_jax.models.recommender import loss_fn

# Files of a backbone that is not there yet wait for it.
FILES = [p for p in sorted(FOLDER.glob("faerec_*.npz")) if p.stem.split("_")[1] in backbones.PLUGINS.names()]


def test_golden_files_are_there():
    if not FILES:
        pytest.skip(f"no faerec_*.npz in {FOLDER}; set LLMESR_GOLDEN to the folder of golden files")
    assert {p.stem.split("_")[1] for p in FILES} >= {"sasrec"}


@pytest.mark.parametrize("path", cases(FILES))
def test_golden(path):
    meta, arrays = golden_release.read(path)
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        model, module = golden_faerec.build(meta), golden_faerec.method(meta)
        tree, used = golden_faerec.params(meta, arrays)
        assert used == {key.removeprefix("param/") for key in arrays if key.startswith("param/")}
        params, tables = jax.tree.map(jnp.asarray, tree), golden_faerec.tables(meta, arrays)
        batch = golden_faerec.batch(arrays)
        shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), tables, batch))
        assert jax.tree.map(jnp.shape, shapes) == jax.tree.map(jnp.shape, params)

        epoch = meta["curriculum"]["epoch"] + 1  # the release counts epochs from 0
        run = jax.jit(jax.value_and_grad(lambda p: loss_fn(model, p, tables, batch, None, epoch), has_aux=True))
        (total, values), gradients = run(params)
        for ours, theirs in (
            ("ranking", "ranking_loss"),
            ("item_alignment", "item_alignment_loss"),
            ("feature_alignment", "feature_alignment_loss"),
        ):
            assert_met(values[ours], arrays[f"out/{theirs}"], theirs)
        assert_met(total, arrays["out/total_loss"], "total_loss")

        golden_gradients, golden_used = golden_faerec.params(meta, arrays, "grad/")
        assert golden_used == used
        ours = jax.tree_util.tree_flatten_with_path(gradients)[0]
        theirs = jax.tree_util.tree_flatten_with_path(golden_gradients)[0]
        for (name, ours_x), (golden_name, golden_x) in zip(ours, theirs, strict=True):
            assert name == golden_name
            # Where a parameter is complex, the release writes dL/dRe + i dL/dIm.
            assert_met(np.conj(ours_x), golden_x, jax.tree_util.keystr(name))

        @jax.jit
        def outputs(params):
            variables = {"params": params, "tables": tables}
            x_2xTxD = module.apply(variables, batch.students, True, method="slot_views")
            encoded = module.apply(variables, x_2xTxD, batch.students, True, False, method="encode")
            ids = jnp.arange(meta["item_num"] + 2, dtype=jnp.int32)
            return encoded, module.apply(variables, ids, method="items"), model.item_vectors(params, tables)

        encoded, every, items = outputs(params)
        assert_met(encoded.reshape(arrays["out/encoded"].shape), arrays["out/encoded"], "encoded")
        users = jax.jit(lambda p: model.user_vectors(p, tables, batch.students))(params)
        assert_met(users @ every.T, arrays["out/scores_all_items"], "scores_all_items")
        assert_met(users @ items.T, arrays["out/scores_all_items"][:, 1:-1], "scores_all_items")


@pytest.mark.parametrize("path", FILES[:1], ids=lambda p: p.stem)
def test_golden_curriculum(path):
    meta, arrays = golden_release.read(path)
    config, _, _ = golden_faerec.parts(meta)
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        item, feature = faerec.alignment_weights(config, jnp.asarray(arrays["out/curriculum_epochs"], jnp.float64))
        assert_met(item, arrays["out/curriculum_item_weight"], "item weight")
        assert_met(feature, 1 - arrays["out/curriculum_item_weight"], "feature weight")
