"""A wrong folder is answered with what it is, and with the one that was probably meant."""

import pytest

from llmesr_jax.core.errors import InputError
from llmesr_jax.serving import folders


@pytest.fixture
def place(tmp_path):
    """runs/a/llmesr and runs/a/none are runs, bundle is a bundle, data is a data set."""
    for name in ("runs/a/llmesr/config.json", "runs/a/none/config.json", "bundle/manifest.json", "bundle/views.npy"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "runs/a/llmesr/checkpoints").mkdir()
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "manifest.json").touch()
    return tmp_path


@pytest.mark.parametrize(
    ("check", "name", "said"),
    [
        (folders.check_run, "runs/a", "is not the folder of a run (it has no config.json); did you mean {}/llmesr or {}/none?"),
        (folders.check_run, "runs", "did you mean {}/a/llmesr or {}/a/none?"),
        (folders.check_run, "runs/a/lmesr", "does not exist; expected the folder of a run, made by launch.train; did you mean llmesr?"),
        (folders.check_run, "runs/a/llmesr/checkpoints", "(it has no config.json); did you mean {..}?"),
        (folders.check_run, "bundle", "is a bundle; expected the folder of a run, made by launch.train, or pass this folder as --bundle,"),
        (folders.check_run, "data", "is not the folder of a run (it has no config.json); expected the folder of a run"),
        (folders.check_run, "bundle/views.npy", "is a file; expected the folder of a run"),
        (folders.check_bundle, "runs/a/none", "is the folder of a run; expected a bundle, a folder made by launch.export, or pass this folder as --workdir,"),
        (folders.check_bundle, "runs", "is not a bundle (it has no manifest.json); expected a bundle"),
        (folders.check_bundle, "nowhere/b", "does not exist; expected a bundle"),
    ],
)  # fmt: skip
def test_a_wrong_folder(check, name, said, place):
    folder = place / name
    with pytest.raises(InputError) as caught:
        check(folder)
    wanted = said.replace("{..}", str(folder.parent)).replace("{}", str(folder))
    assert str(caught.value).startswith(f"{folder}: ") and wanted in str(caught.value)


def test_a_right_folder(place):
    folders.check_run(place / "runs/a/llmesr")
    folders.check_bundle(place / "bundle")
