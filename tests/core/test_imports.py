"""Who imports whom: packages in one direction, modules without a cycle, and nothing heavy before it is needed."""

import ast
import configparser
import graphlib
import re
import subprocess
import sys
from pathlib import Path

import commands
import pytest

# From docs/architecture.md. A package imports only from packages before it.
ORDER = [
    "core",
    "data",
    "semantic",
    "audit",
    "models",
    "ranking",
    "training",
    "serving",
    "experiments",
    "configs",
    "launch",
]
NO_JAX = ["core", "data", "audit"]
LIBRARY = ["llmesr_jax", "launch", "configs"]


def modules():
    """{dotted name: path} of the library, the commands and the configurations."""
    found = {}
    for package in LIBRARY:
        for path in (commands.PROJECT / package).rglob("*.py"):
            parts = path.relative_to(commands.PROJECT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def imported(name):
    """The project's modules that a module imports, at its top or inside of a function."""
    path, found = MODULES[name], set()
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            whole = {f"{base}.{alias.name}" for alias in node.names}
            found |= {one if one in MODULES else base for one in whole}
    return {one for one in found if one in MODULES and one != name}


GRAPH = {name: imported(name) for name in MODULES}


def cycle(graph):
    """The names along a cycle of imports, the first one again at its end; none where there is no cycle."""
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return error.args[1]
    return []


def package_of(name):
    return name.removeprefix("llmesr_jax.").partition(".")[0]


def test_every_module_is_in_a_package_of_the_plan():
    assert {package_of(name) for name in MODULES} - {"llmesr_jax", "extend", "gradients"} == set(ORDER)


def test_packages_import_only_packages_before_them():
    up = {
        f"{name} imports {other}"
        for name, others in GRAPH.items()
        for other in others
        if package_of(name) in ORDER
        and package_of(other) in ORDER
        and ORDER.index(package_of(other)) > ORDER.index(package_of(name))
    }
    assert not up


def test_no_module_imports_itself_through_others():
    assert cycle(GRAPH) == []
    assert set(cycle({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}})) == {"a", "b", "c"}


@pytest.mark.parametrize("package", NO_JAX)
def test_no_jax_where_none_is_needed(package):
    names = [name for name in MODULES if name.startswith(f"llmesr_jax.{package}")]
    assert names
    for name in names:
        for node in ast.walk(ast.parse(MODULES[name].read_text())):
            found = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            found += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not [one for one in found if one.partition(".")[0] in ("jax", "flax", "optax", "orbax")], name


def test_only_launch_reads_flags():
    for name, path in MODULES.items():
        if not name.startswith("launch"):
            text = path.read_text()
            assert "absl import flags" not in text and "absl.flags" not in text, name


def test_flags_are_made_of_settings_in_one_place():
    """`setting_flags` makes them all, but for `--config`, whose values `ml_collections` reads, and second names."""
    made = {name for name, path in MODULES.items() if "flags.DEFINE" in path.read_text().replace("DEFINE_alias", "")}
    assert made == {"launch.setting_flags", "launch.cli"}
    assert re.findall(r"flags\.(DEFINE\w*)", MODULES["launch.cli"].read_text()) == [
        "DEFINE_alias",
        "DEFINE_config_file",
    ]


def loaded(program):
    """Names of the modules that are loaded when a program has run in a fresh interpreter."""
    code = f"import sys\n{program}\nprint(*sorted(sys.modules))"
    env = {"PYTHONPATH": str(commands.PROJECT), "PATH": "", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", code]
    return set(subprocess.run(command, capture_output=True, text=True, check=True, env=env).stdout.split())


def test_the_library_alone_imports_nothing_else():
    assert not loaded("import llmesr_jax") & {"jax", "numpy", "polars", "openai", "sklearn", "absl"}


def test_a_training_on_prepared_files_reads_no_raw_data_and_no_server():
    program = "from launch import train\nfrom llmesr_jax.training import config, experiment, loop, schema\n"
    found = loaded(program + "config.build({'dataset': 'demo'})\nschema.sections()")
    assert "jax" in found and not found & {"polars", "openai", "httpx", "sklearn", "matplotlib"}


@pytest.mark.parametrize("command", sorted(p.stem for p in (commands.PROJECT / "launch").glob("[!_]*.py")))
def test_help_waits_for_nothing(command):
    if command in ("cli", "command_help", "encoder_flags", "quiet", "setting_flags", "signals"):
        return
    program = f"import runpy\nsys.argv = ['{command}', '--help']\n"
    program += f"try:\n    runpy.run_module('launch.{command}', run_name='__main__')\nexcept SystemExit as end:\n"
    program += "    assert not end.code\n"
    heavy = {"jax", "openai", "sklearn", "matplotlib", "orbax", "httpx", "tenacity", "jinja2"}
    assert not loaded(program) & heavy


def test_a_client_of_servers_is_imported_where_something_is_fetched():
    assert not loaded("from llmesr_jax.data import download, importers") & {"httpx", "tenacity"}


def test_the_wheel_has_every_package():
    settings = configparser.ConfigParser()
    settings.read(commands.PROJECT / "setup.cfg")
    listed = set(settings["options"]["packages"].split())
    here = {name for name, path in MODULES.items() if path.name == "__init__.py"}
    moved = {f"llmesr_jax.{name}" for name in here if not name.startswith("llmesr_jax")}
    assert listed == {name for name in here if name.startswith("llmesr_jax")} | moved


def test_the_wheel_has_every_file_that_is_no_module():
    settings = configparser.ConfigParser()
    settings.read(commands.PROJECT / "setup.cfg")
    root = commands.PROJECT / "llmesr_jax"
    listed = {
        path
        for package, patterns in settings["options.package_data"].items()
        for pattern in patterns.split()
        for path in commands.PROJECT.joinpath(*package.split(".")).glob(pattern)
    }
    assert listed == {path for path in root.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")}


def test_public_names_are_there():
    import llmesr_jax

    assert all(getattr(llmesr_jax, name) is not None for name in llmesr_jax.__all__)
    assert set(llmesr_jax.__all__) <= set(dir(llmesr_jax))
    from llmesr_jax import gradients

    assert all(callable(getattr(gradients, name)) for name in gradients.__all__)
    assert set(gradients.__all__) == set(gradients._NAMES)
    with pytest.raises(AttributeError, match="no attribute 'absent'"):
        llmesr_jax.absent
    assert Path(llmesr_jax.__file__).with_name("py.typed").exists()
