"""Steps on meshes of eight CPU devices find the losses and gradients of one device, and tables are split by rows.

Each test is a process of its own, which takes long.
"""

import json

import pytest
from eight_devices import lines

pytestmark = pytest.mark.slow


CASES = [
    {"backbone": "sasrec", "method": "llmesr", "float64": True, "meshes": [[3, 2]]},
    {"backbone": "gru4rec", "method": "faerec", "touched": True, "meshes": [[1, 4]]},
    {"backbone": "bert4rec", "method": "loam", "meshes": [[1, 2]]},
]


def test_losses_and_gradients_are_those_of_one_device():
    for case, found in zip(CASES, lines("mesh_steps.py", *map(json.dumps, CASES)), strict=True):
        limit = 1e-10 if case.get("float64") else 1e-5
        assert len(found) == len(case["meshes"])
        for shape, apart in found.items():
            assert max(apart[part] for part in ("losses", "gradients", "vectors")) < limit, (case, shape, apart)
            assert apart["same bits"], (case, shape)


def test_a_device_holds_its_share_and_exchanges_what_does_not_grow_with_items():
    """By the compiled program: table and two moments of (rows, 64) float32, and as much for gradients while it runs."""
    cases = [
        {"shape": [1, 8], "items": items, **more}
        for more in ({"method": "none"}, {"ranked": True})
        for items in (10**7, 10**4)
    ]
    large, small, *ranked = lines("mesh_cost.py", *map(json.dumps, cases))
    of_table = 4 * 64 * 10**7
    assert 3 * of_table / 8 <= large["argument"] < 3 * of_table / 8 + 2**20
    assert of_table / 8 <= large["temp"] < of_table / 8 + 2**20
    assert large["exchanged"] == small["exchanged"] and large["exchanged"]["in loops"] == 0
    assert large["exchanged"]["all-reduce"] > 0
    # Of 128 users, scores and ids of the best 20 on each of 8 devices; the target's score and two counts.
    assert all(
        r["exchanged"] == {"all-gather": 128 * 20 * 8 * 8, "all-reduce": 128 * 12, "in loops": 0} for r in ranked
    )


def test_a_checkpoint_of_any_mesh_is_read_on_any_other(tmp_path):
    """Where the newer of two is damaged, the older is read; the checksum knows of no mesh."""
    shapes = ["1,1", "1,2", "1,8", "3,2"]
    found = lines("mesh_checkpoints.py", str(tmp_path))
    assert len(found) == len(shapes)
    for line in found:
        checksum = line.pop("checksum")
        assert checksum and line == {s: [2, True] for s in shapes} | {f"damaged {s}": [1, True] for s in shapes}
