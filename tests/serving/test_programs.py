"""The encoder that serves equals the one that evaluation runs, for each backbone, method and layout."""

import itertools
import os

import numpy as np
import pytest
import served
import tiny

from llmesr_jax.models import backbones, methods
from llmesr_jax.serving import programs

FAST = [("none", "bert4rec", {})]
# Each backbone under one view, under two that are joined and under two that are fused; each method on a causal, a masked and
# a recurrent backbone. LLMESR_ALL_PAIRS=1 takes all pairs.
PAIRS = set(itertools.product(methods.PLUGINS.names(), backbones.PLUGINS.names()))
if not os.environ.get("LLMESR_ALL_PAIRS"):
    PAIRS = {(m, b) for m, b in PAIRS if m in ("none", "llmesr", "faerec") or b in ("sasrec", "bert4rec", "gru4rec")}
ALL = [(method, backbone, {}) for method, backbone in sorted(PAIRS)]
# `release` pads before the items and attends to padding.
ALL += [("llmesr", "sasrec", {"data__layout": "padded", "sasrec__mask_padding": False})]
ALL += [("llmesr", "gru4rec", {"data__layout": "padded"})]
ALL += [("llmesr", "bert4rec", {"loss__score": "cosine"}), ("faerec", "sasrec", {"loss__score": "cosine"})]
ALL += [("llmesr", "gru4rec", {"llmesr__views": views}) for views in ("semantic", "collaborative")]
ALL += [("faerec", "gru4rec", {"faerec__gate": False}), ("llmesr", "gru4rec", {"llmesr__freeze_semantic": False})]
ALL += [("llmesr", "sasrec", {"llmesr__share": False, "llmesr__cross_attention": False})]


def check(method, backbone, changes):
    made, params, tables = served.trained(method, backbone, **changes)
    model = served.model(method, backbone, **changes)
    histories = [ids for ids in served.histories(1, 30) if ids] + [[3], [7] * 60]
    found = model.programs.users(model.views_WxVxD, [np.array(ids, np.int32) for ids in histories])
    wanted = served.plain_users(made, params, tables, histories)
    tiny.assert_close(found, wanted, 1e-5)
    parts = np.asarray(model.programs.parts(model.views_WxVxD[:, 1:-1]))
    tiny.assert_close(parts.sum(axis=0), model.items_VxE, 1e-6)
    assert model.programs.longest == 20 - (backbone == "bert4rec")
    if model.programs.semantic is not None:
        place = model.programs.names.index("semantic")
        semantic = np.asarray(model.views_WxVxD[place])[1:-1]
        if changes.get("llmesr__freeze_semantic", True):
            tiny.assert_close(model.programs.semantic(model.embeddings_VxF), semantic, 1e-6)


@pytest.mark.parametrize(("method", "backbone", "changes"), FAST, ids=str)
def test_served_users_are_those_of_evaluation(method, backbone, changes):
    check(method, backbone, changes)


@pytest.mark.slow
@pytest.mark.parametrize(("method", "backbone", "changes"), ALL, ids=str)
def test_served_users_are_those_of_evaluation_on_every_backbone_and_under_every_method(method, backbone, changes):
    check(method, backbone, changes)


def test_lengths():
    assert programs.lengths_up_to(200) == (16, 50, 150, 200)
    assert programs.lengths_up_to(50) == (16, 50) and programs.lengths_up_to(9) == (9,)
    assert programs.lengths_up_to(16) == (16,)
