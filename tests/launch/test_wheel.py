"""The commands as an installed wheel has them: below `llmesr_jax`, under one name, in a folder without the repository."""

import configparser
import os
import shutil

import commands
import pytest


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The wheel's content, laid out as `package_dir` in setup.cfg says."""
    folder = tmp_path_factory.mktemp("site")
    settings = configparser.ConfigParser()
    settings.read(commands.PROJECT / "setup.cfg")
    places = dict(line.split(" = ") for line in settings["options"]["package_dir"].strip().splitlines())
    without = shutil.ignore_patterns("__pycache__")
    shutil.copytree(commands.PROJECT / "llmesr_jax", folder / "llmesr_jax", ignore=without)
    for package, place in places.items():
        shutil.copytree(commands.PROJECT / place, folder / package.replace(".", "/"), ignore=without)
    return folder


@pytest.fixture(scope="module")
def llmesr(installed, tmp_path_factory):
    """llmesr(*args, cwd=...) -> Result of the console script."""
    environment = commands.session_environment(tmp_path_factory) | {"PYTHONPATH": str(installed)}
    settings = configparser.ConfigParser()
    settings.read(commands.PROJECT / "setup.cfg")
    script = settings["options.entry_points"]["console_scripts"].strip()
    assert script == "llmesr = llmesr_jax.launch.__main__:main"
    program = "import sys; from llmesr_jax.launch.__main__ import main; sys.argv[0] = 'llmesr'; sys.exit(main())"
    return lambda *args, cwd: commands.run("-c", program, *args, cwd=cwd, env=environment)


def test_the_commands_are_listed(llmesr, tmp_path):
    result = llmesr(cwd=tmp_path)
    assert (result.status, result.err) == (0, "")
    here = {path.stem for path in (commands.PROJECT / "launch").glob("[!_]*.py")} - {"cli", "command_help"}
    listed = {line.split()[0] for line in result.out.splitlines() if line.startswith("  ")}
    assert listed == {name for name in here if "def run()" in (commands.PROJECT / "launch" / f"{name}.py").read_text()}
    assert llmesr("tran", cwd=tmp_path).err.startswith(
        "error: command 'tran' is not known; expected one of: train, prepare, "
    )


def test_messages_name_the_command_that_is_there(llmesr, tmp_path):
    assert "llmesr train --dataset=demo --method=none,llmesr" in llmesr("train", "--help", cwd=tmp_path).out
    result = llmesr("train", "--dataset=nope", cwd=tmp_path)
    assert result.status == 2 and "or a data set that llmesr prepare made" in result.err and "launch" not in result.err


@pytest.mark.slow
def test_the_demo_with_a_preset_and_a_data_sets_settings(llmesr, tmp_path):
    result = llmesr("train", "--dataset=demo", "--preset=best", "--epochs=1", cwd=tmp_path)
    assert (result.status, result.err) == (0, "")
    assert result.out.startswith("faerec on sasrec, demo: 2000 users, 940 items")
    assert os.path.exists(tmp_path / "runs" / "demo" / "sasrec-best" / "faerec" / "results.json")
