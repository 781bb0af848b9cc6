"""Our `release` preset against the authors' released models: outputs and every gradient, in 64-bit."""

import golden_release
import jax
import jax.numpy as jnp
import pytest
from golden_files import FILES, FOLDER, assert_met, cases

from llmesr_jax.models.recommender import loss_fn


def test_golden_files_are_there():
    if not FILES:
        pytest.skip(f"no llmesr_*.npz in {FOLDER}; set LLMESR_GOLDEN to the folder of golden files")
    assert {p.name.split("_")[1] for p in FILES} <= {"sasrec", "bert4rec", "gru4rec"}


@pytest.mark.parametrize("path", cases(FILES))
def test_golden(path):
    meta, arrays = golden_release.read(path)
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        model = golden_release.build(meta)
        tree, used = golden_release.params(meta, arrays)
        params = jax.tree.map(jnp.asarray, tree)
        tables = {
            "item_llm": jnp.asarray(arrays["param/llm_item_emb.weight"], jnp.float64),
            "item_pca": params["table"]["items"],
            "similar_users": jnp.zeros((1, meta["n_similar"]), jnp.int32),
        }
        batch = golden_release.batch(meta, arrays)
        rows, length = arrays["in/seq"].shape

        shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), tables, batch))
        assert jax.tree.map(jnp.shape, shapes) == jax.tree.map(jnp.shape, params)

        run = jax.jit(jax.value_and_grad(lambda p: loss_fn(model, p, tables, batch, None), has_aux=True))
        (total, values), gradients = run(params)
        assert_met(values["ranking"], arrays["out/ranking_loss"], "ranking_loss")
        assert_met(values["distillation"], arrays["out/distillation_loss"], "distillation_loss")
        assert_met(total, arrays["out/total_loss"], "total_loss")

        golden_gradients, golden_used = golden_release.params(meta, arrays, "grad/")
        without = {"llm_item_emb.weight"} if "llm_item_emb.weight" in meta["frozen"] else set()
        assert {k.removeprefix("grad/") for k in arrays if k.startswith("grad/")} == golden_used
        assert used - golden_used == set() and golden_used.isdisjoint(without)
        ours = jax.tree_util.tree_flatten_with_path(gradients)[0]
        theirs = jax.tree_util.tree_flatten_with_path(golden_gradients)[0]
        for (name, ours_x), (golden_name, golden_x) in zip(ours, theirs, strict=True):
            assert name == golden_name
            assert_met(ours_x, golden_x, jax.tree_util.keystr(name))
        if "grad/pos_emb.weight" in arrays:  # rows beyond our table are never used
            assert not arrays["grad/pos_emb.weight"][meta["max_len"] + 2 :].any()

        features = jax.jit(lambda p: features_of(model, p, tables, batch.students))(params)
        assert_met(features.reshape(rows, length, -1), arrays["out/features"], "features")

        predict = golden_release.evaluation(meta, arrays)
        users = jax.jit(lambda p: model.user_vectors(p, tables, predict))(params)
        items = jax.jit(lambda p: model.item_vectors(p, tables))(params)
        scores = jnp.einsum("be,bce->bc", users, items[arrays["in/candidates"] - 1])
        assert_met(scores, arrays["out/candidate_scores"], "candidate_scores")


def features_of(model, params, tables, students):
    """(B, L, E): the user vector after every slot, as if each slot in turn were its row's newest."""
    length = students.buckets[0][1]
    last_LxR = students.last_R[None, :] - jnp.arange(length - 1, -1, -1)[:, None]
    users = jax.vmap(lambda last_R: model.user_vectors(params, tables, students.replace(last_R=last_R)))
    return jnp.swapaxes(users(last_LxR), 0, 1)
