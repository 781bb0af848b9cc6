"""The doctor: what it says of an installation, and which faults it finds."""

import importlib.metadata
import os

import pytest

from llmesr_jax.experiments import doctor


@pytest.fixture(autouse=True)
def light(monkeypatch):
    """No matrix product, no call of other programs."""
    monkeypatch.setattr(doctor, "_speed", lambda: 12e9)
    monkeypatch.setattr(doctor, "_cards", list)


@pytest.fixture
def installed(monkeypatch):
    """installed(requirements, {package: version}): what pip says is there."""

    def install(requirements, versions):
        def version(name):
            if name not in versions:
                raise importlib.metadata.PackageNotFoundError(name)
            return versions[name]

        monkeypatch.setattr(importlib.metadata, "requires", lambda name: requirements)
        monkeypatch.setattr(importlib.metadata, "version", version)

    return install


def examine(tmp_path, **environ):
    return doctor.examine("1.0", tmp_path / "compiled", 2**31, environ)


def test_facts_of_a_sound_installation(tmp_path, installed):
    asked = ["jax>=0.10", "numpy>=2.0", "jax[cuda12]>=0.10; extra == 'cuda12'", "optuna>=4.0; extra == 'search'"]
    asked += ["optuna>=4.0; extra == 'test'", "duckdb>=1.0; extra == 'duckdb'"]
    installed(asked, {"jax": "0.10.2", "jaxlib": "0.10.1", "numpy": "2.4.6", "optuna": "4.1"})
    (tmp_path / "compiled" / "kind").mkdir(parents=True)
    (tmp_path / "compiled" / "kind" / "program").write_bytes(bytes(2**20))
    found = examine(tmp_path, JAX_PLATFORMS="cpu", OPENAI_API_KEY="secret", HOME="/home/me")
    facts = dict(found.facts)
    assert facts["packages"] == "jax 0.10.2, numpy 2.4.6" and facts["extras"] == "optuna 4.1"
    assert facts["JAX computes on"].startswith("1 x cpu") and facts["matrix product"].startswith("12 GFLOP/s")
    assert "0.00 GiB of at most 2.00 GiB" in facts["traced and compiled programs"] and facts["JAX_PLATFORMS"] == "cpu"
    assert not found.problems and str(found).endswith("Problems\nnone found") and "secret" not in str(found)


@pytest.mark.parametrize(
    ("versions", "problem"),
    [
        ({"numpy": "2.4"}, "jax is not installed; run: pip install 'jax>=0.10'"),
        ({"jax": "0.9.9", "numpy": "2.4"}, "jax is 0.9.9; expected 0.10 or newer; run: pip install -U jax"),
        ({"jax": "0.10.0", "numpy": "1.26.4"}, "numpy is 1.26.4; expected 2.0 or newer"),
        ({"jax": "0.12.0", "jaxlib": "0.10.2", "numpy": "2.0"}, "jax is 0.12.0 and jaxlib 0.10.2; expected the same"),
    ],
)
def test_versions_that_do_not_fit(tmp_path, installed, versions, problem):
    installed(["jax>=0.10", "numpy>=2.0", "optuna>=4.0; extra == 'search'"], versions)
    (line,) = examine(tmp_path).problems
    assert line.startswith(problem)


def test_a_graphics_card_that_jax_does_not_use(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor, "_cards", lambda: ["NVIDIA H200, 143771 MiB, 570.1"])
    for environ, cure in (({}, "pip install -e '.[cuda13]'"), ({"JAX_PLATFORMS": "cpu"}, "unset JAX_PLATFORMS")):
        (line,) = examine(tmp_path, **environ).problems
        assert "there is a graphics card, but JAX does not use it" in line and cure in line


def test_settings_of_jax_that_slow_everything_down(tmp_path):
    found = examine(tmp_path, JAX_DISABLE_JIT="1", JAX_ENABLE_X64="0", JAX_DEBUG_NANS="True")
    assert [line.partition(":")[0] for line in found.problems] == ["JAX_DEBUG_NANS=True", "JAX_DISABLE_JIT=1"]


@pytest.mark.skipif(os.getuid() == 0, reason="root may write anywhere")
def test_a_cache_that_cannot_be_written(tmp_path):
    tmp_path.chmod(0o500)
    (line,) = examine(tmp_path).problems
    assert f"{tmp_path} cannot be written" in line and "XDG_CACHE_HOME" in line


def test_compiled_code_is_deleted_and_nothing_else(tmp_path):
    (tmp_path / "compiled" / "kind").mkdir(parents=True)
    (tmp_path / "compiled" / "kind" / "program").write_bytes(bytes(1000))
    (tmp_path / "tables").mkdir()
    assert doctor.clear(tmp_path / "compiled") == 1000 and doctor.clear(tmp_path / "compiled") == 0
    assert [path.name for path in tmp_path.iterdir()] == ["tables"]
