"""A bundle answers as the run does, needs nothing but jax, numpy and flatbuffers, and says what is wrong with it."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import commands
import jax
import numpy as np
import pytest
import served
import tiny

from llmesr_jax.core import files
from llmesr_jax.core.errors import InputError
from llmesr_jax.serving import bundle, export

pytest.importorskip("flatbuffers")
HISTORIES = [["sku-1", "sku-2"], ["商品3"], [], ["nope"], ["sku-4"] * 70, ["sku-5", None, 7, "sku-7"]]


@pytest.fixture(scope="module")
def run():
    return served.run()


@pytest.fixture(scope="module")
def folder(run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported") / "bundle"
    export.export(run, folder)
    return folder


@pytest.fixture
def copy(folder, tmp_path):
    made = tmp_path / "bundle"
    made.mkdir()
    for path in folder.iterdir():
        (made / path.name).write_bytes(path.read_bytes())
    return made


def equal(found, wanted, tolerance=1e-5):
    for a, b in zip(found, wanted, strict=True):
        assert (a.source, a.unknown) == (b.source, b.unknown)
        assert [(r.item, r.title) for r in a.recommendations] == [(r.item, r.title) for r in b.recommendations]
        np.testing.assert_allclose(
            [r.score for r in a.recommendations], [r.score for r in b.recommendations], atol=tolerance
        )


def test_the_bundle_answers_as_the_run(run, folder):
    loaded = bundle.load(folder)
    for options in ({}, {"diversity": 0.5}, {"where": ["brand=Acme"]}, {"tail_share": 0.6, "hide_seen": False}):
        equal(loaded.recommend(HISTORIES, 5, **options), run.recommend(HISTORIES, 5, **options), 1e-3)
    assert loaded.similar_items("sku-1", 4) == run.similar_items("sku-1", 4)
    found, wanted = (x.explain(["sku-1", "sku-2"], "sku-4") for x in (loaded, run))
    assert found.score == pytest.approx(wanted.score, abs=1e-5) and found.views.keys() == wanted.views.keys()
    text = np.asarray(run.served().embeddings_VxF[:1])
    equal(*(x.with_items(["new"], text).recommend(HISTORIES[:1], 31) for x in (loaded, run.served())), 1e-3)


def test_the_manifest(folder):
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["views"] == ["id", "semantic"] and manifest["columns"] == {"id": [0, 4], "semantic": [4, 8]}
    assert manifest["model"]["seed"] == 42 and manifest["model"]["jax"] == jax.__version__
    assert manifest["platforms"] == ["cpu", "cuda"] and manifest["score"] == "user vector . item vector"
    assert max(manifest["parity"].values()) <= export.TOLERANCE
    assert set(manifest["files"]) == {path.name for path in folder.iterdir()} - {"manifest.json"}


ONLY = ("jax", "jaxlib", "numpy", "numpy.libs", "flatbuffers", "ml_dtypes", "opt_einsum", "scipy", "scipy.libs")
PROGRAM = """
import sys
import llmesr_jax
model = llmesr_jax.load_bundle(sys.argv[1])
answers = model.recommend([["sku-1", "sku-2"], []], 3, diversity=0.2, where=["price<20"])
print([[r.item for r in a.recommendations] for a in answers], model.explain(["sku-1"], "sku-2").score)
model.with_items(["new"], model.embeddings_VxF[:1].astype("float32")).similar_items("new", 2)
"""


def test_it_needs_jax_numpy_and_flatbuffers_only(run, folder, tmp_path):
    """In an environment that has them, what jax itself needs, and this package without its dependencies."""
    for name in ONLY:
        found = next((path for root in sys.path if (path := Path(root, name)).is_dir()), None)
        if found:
            (tmp_path / name).symlink_to(found)
    (tmp_path / "llmesr_jax").symlink_to(commands.PROJECT / "llmesr_jax")
    environment = {"PYTHONPATH": str(tmp_path), "JAX_PLATFORMS": "cpu", "PATH": ""}
    command = [sys.executable, "-S", "-c", PROGRAM, str(folder)]
    made = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert made.returncode == 0, made.stderr[-800:]
    answers = run.recommend([["sku-1", "sku-2"], []], 3, diversity=0.2, where=["price<20"])
    assert str([[r.item for r in a.recommendations] for a in answers]) in made.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "backbone"),
    [("faerec", b) for b in ("sasrec", "bert4rec", "fmlprec", "lrurec", "narm", "lightsans", "gmlp")]
    + [("none", "bert4rec"), ("llminit", "gru4rec"), ("rlmrec_con", "sasrec"), ("llmesr", "lightsans")]
    + [("alphafuse", "gru4rec"), ("ace", "gru4rec")],
)
def test_every_model_can_be_exported(method, backbone, tmp_path):
    changes = {} if method in ("faerec", "llmesr", "rlmrec_con") else {"semantic__encoder": "random"}
    manifest = export.export(served.run(method, backbone, **changes), tmp_path / "bundle")
    assert max(manifest["parity"].values()) <= export.TOLERANCE
    assert len(bundle.load(tmp_path / "bundle").recommend([["sku-1"]], 3)[0].recommendations) == 3


def test_without_embeddings_and_titles(tmp_path):
    run = served.run("none", "gru4rec", semantic__encoder="random")
    export.export(run, tmp_path / "bundle", export.Settings(("cpu",), embeddings=False))
    loaded = bundle.load(tmp_path / "bundle")
    assert loaded.embeddings_VxF is None and loaded.programs.names == ("id",) and loaded.programs.semantic is None
    tiny.assert_close(loaded.items_VxE, run.served().items_VxE, 0)


def test_a_difference_is_refused_and_leaves_nothing(run, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "TOLERANCE", -1.0)
    with pytest.raises(InputError, match="the exported scores differ from the run's by .* nothing was written"):
        export.export(run, tmp_path / "bundle")
    assert list(tmp_path.iterdir()) == []


def test_two_exports_to_one_folder_do_not_mix(run, tmp_path, monkeypatch):
    """The second is refused while the first compares, whose files stay as they were."""
    compare, said = export._compare, []

    def meanwhile(*args):
        with pytest.raises(InputError, match="another launch.export is writing it; wait for it, or choose") as caught:
            export.export(run, tmp_path / "bundle")
        said.append(caught.value)
        return compare(*args)

    monkeypatch.setattr(export, "_compare", meanwhile)
    export.export(run, tmp_path / "bundle", export.Settings(("cpu",)))
    assert len(said) == 1 and [path.name for path in tmp_path.iterdir()] == ["bundle"]
    equal(bundle.load(tmp_path / "bundle").recommend(HISTORIES, 5), run.recommend(HISTORIES, 5), 1e-3)


def test_an_empty_folder_named_by_a_dot(run, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    export.export(run, ".", export.Settings(("cpu",)))
    assert len(bundle.load(tmp_path / "here").catalogue) == served.ITEMS


def other_prices(copy: Path, new: Path) -> None:
    """Another bundle of the same items, in `new`: each costs 100 more."""
    shutil.copytree(copy, new)
    records = [json.loads(line) for line in (new / "items.jsonl").read_text().splitlines()]
    lines = [json.dumps({**one, "price": f"${100 + one['item_id']}.50"}) + "\n" for one in records]
    (new / "items.jsonl").write_text("".join(lines))
    manifest = json.loads((new / "manifest.json").read_text())
    manifest["files"]["items.jsonl"] = {
        "bytes": (new / "items.jsonl").stat().st_size,
        "sha256": files.sha256(new / "items.jsonl"),
    }
    (new / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize("used_before", [False, True])
def test_a_loaded_bundle_keeps_its_columns_after_another_took_its_place(copy, tmp_path, used_before):
    other_prices(copy, tmp_path / "new")
    loaded = bundle.load(copy)
    wanted = bundle.load(copy).recommend(HISTORIES[:1], 9, where=["price<6"])
    if used_before:
        equal(loaded.recommend(HISTORIES[:1], 9, where=["price<6"]), wanted)
    copy.rename(tmp_path / "old")
    (tmp_path / "new").rename(copy)
    shutil.rmtree(tmp_path / "old")
    equal(loaded.recommend(HISTORIES[:1], 9, where=["price<6"]), wanted)
    with pytest.raises(InputError, match="leave no item"):
        bundle.load(copy).recommend(HISTORIES[:1], 9, where=["price<6"])


def test_a_bundle_that_is_replaced_while_it_is_read_is_refused(copy, tmp_path, monkeypatch):
    other_prices(copy, tmp_path / "new")
    program = bundle._program

    def replacing(path, manifest):
        if (tmp_path / "new").exists():
            copy.rename(tmp_path / "old")
            (tmp_path / "new").rename(copy)
        return program(path, manifest)

    monkeypatch.setattr(bundle, "_program", replacing)
    with pytest.raises(InputError, match="was replaced by another bundle while it was being read; load it again"):
        bundle.load(copy)


def test_a_link_to_a_bundle_may_be_moved(copy, tmp_path):
    other_prices(copy, tmp_path / "new")
    link = tmp_path / "current"
    link.symlink_to(copy)
    loaded = bundle.load(link)
    link.unlink()
    link.symlink_to(tmp_path / "new")
    assert loaded.recommend(HISTORIES[:1], 9, where=["price<6"])[0].recommendations


def test_what_export_refuses(run, folder, tmp_path):
    for out, settings, said in (
        (folder, export.Settings(), "already has a bundle; choose"),
        (tmp_path / "x", export.Settings(("gpu",)), "'gpu' is not known; expected some of: cpu, cuda"),
        (tmp_path / "x", export.Settings(()), "--platforms: is empty"),
    ):
        with pytest.raises(InputError, match=said):
            export.export(run, out, settings)
    (tmp_path / "link").symlink_to(folder)
    with pytest.raises(InputError, match="link: is a link, .*; export to a new folder, and then move the link to it"):
        export.export(run, tmp_path / "link", export.Settings(overwrite=True))
    assert (tmp_path / "link").is_symlink() and bundle.load(tmp_path / "link")
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="already exists and is not a bundle"):
        export.export(run, tmp_path)
    with pytest.raises(InputError, match="has no seed 7; expected one of: 42"):
        export.export(run, tmp_path / "x", seed=7)


def test_bundles_that_cannot_be_read(copy, tmp_path):
    def refused(said, **options):
        with pytest.raises(InputError, match=said):
            bundle.load(copy, **options)

    encoder, whole = copy / "encoder_16.stablehlo", (copy / "encoder_16.stablehlo").read_bytes()
    encoder.write_bytes(whole[:-3] + b"xyz")
    refused("encoder_16.stablehlo: is damaged or was changed")
    encoder.write_bytes(whole[: len(whole) // 2])
    refused("is damaged or was changed", check=False)
    encoder.unlink()
    refused("is missing from the bundle")
    manifest = json.loads((copy / "manifest.json").read_text())
    encoder.write_bytes(b"no program" * (len(whole) // 10) + b" " * (len(whole) % 10))
    refused("cannot be read by this jax .* install jax==", check=False)
    for text, said in (
        (json.dumps(manifest | {"format": 9}), "is a bundle of format 9"),
        ("{}", "not the manifest of a bundle;"),
    ):
        (copy / "manifest.json").write_text(text)
        refused(said)
    (copy / "manifest.json").write_text("{")
    refused("cannot be read")
    with pytest.raises(InputError, match="expected a bundle, a folder made by launch.export"):
        bundle.load(tmp_path / "nowhere")


def test_another_platform(folder, monkeypatch):
    monkeypatch.setattr(bundle, "platform", lambda: "tpu")
    with pytest.raises(InputError, match="was exported for cpu, cuda, but this machine is tpu"):
        bundle.load(folder)


@pytest.mark.slow
@pytest.mark.parametrize(("method", "backbone"), [("faerec", "sasrec"), ("llmesr", "gru4rec"), ("llmesr", "bert4rec")])
def test_onnx_gives_the_same_users(method, backbone, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("jax2onnx")
    run = served.run(method, backbone)
    manifest = export.export(run, tmp_path / "bundle", export.Settings(("cpu",), onnx=2))
    loaded = bundle.load(tmp_path / "bundle")
    session = onnxruntime.InferenceSession(str(tmp_path / "bundle" / manifest["programs"]["onnx"]["16"]))
    ids = np.zeros((2, 16), np.int32)
    ids[0, :3], ids[1, :1] = [1, 2, 3], [9]
    inputs = {"views": np.load(tmp_path / "bundle" / "views.npy"), "ids": ids, "lengths": np.array([3, 1], np.int32)}
    users = session.run(["users"], inputs)[0]
    wanted = loaded.programs.users(loaded.views_WxVxD, [ids[0, :3], ids[1, :1]])
    tiny.assert_close(users, wanted, 1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["fmlprec", "lrurec", "gmlp"])
def test_what_onnx_cannot_do_is_said(backbone, tmp_path):
    pytest.importorskip("jax2onnx")
    with pytest.raises(InputError, match=f"--onnx: .*{backbone} under faerec"):
        export.export(served.run("faerec", backbone), tmp_path / "bundle", export.Settings(("cpu",), onnx=1))
    assert list(tmp_path.iterdir()) == []
