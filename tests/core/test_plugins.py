"""Plug-ins: what a file must have, and what an installed package may bring."""

import dataclasses
import importlib.metadata
import itertools
import sys
import types

import pytest

from llmesr_jax.core import plugins as plugins_lib
from llmesr_jax.core.errors import InputError
from llmesr_jax.core.knobs import knob
from llmesr_jax.core.nearest import nearest
from llmesr_jax.core.plugins import members
from llmesr_jax.training.kinds import kinds, plugin

KINDS = kinds()
EVERY = [(kind, name) for kind, plugins in KINDS.items() for name in plugins.names()]
FORMS = [(k, value, form) for k, of in KINDS.items() for value, form in (of.forms or {"": of.contract}).items()]
DROPPED = [(kind, value, name) for kind, value, contract in FORMS for name in members(contract)]


@dataclasses.dataclass(frozen=True)
class Settings:
    width: int = knob(4, "a width")


@pytest.fixture
def installed(monkeypatch):
    """installed(kind, {name: module}): as if packages brought these modules."""

    def install(kind, modules):
        group, points = KINDS[kind].group, []
        for name, module in modules.items():
            if module is not None:
                monkeypatch.setitem(sys.modules, f"brought_{name}", module)
            points.append(importlib.metadata.EntryPoint(name, f"brought_{name}", group))
        monkeypatch.setattr(plugins_lib, "_entry_points", lambda asked: tuple(points) if asked == group else ())

    return install


def whole(kind, form=None, without=""):
    """A module that is a whole plug-in, but for one attribute; a class for each part that has methods."""
    module, plugins = types.ModuleType("brought"), KINDS[kind]
    forms = plugins.forms or {"": plugins.contract}
    form = next(iter(forms)) if form is None else form
    for name in members(forms[form]):
        value = {"Config": Settings, "Options": Settings, plugins.form: form}.get(name, lambda *_: None)
        if name in plugins.parts:
            value = type(name, (), {method: lambda self, *_: None for method in members(plugins.parts[name])})
        if name != without:
            setattr(module, name, value)
    return module


@pytest.mark.parametrize(("kind", "name"), EVERY, ids="-".join)
def test_every_plug_in_of_the_library_meets_its_contract(kind, name):
    assert plugin(kind, name).__name__.endswith(f".{name}")


@pytest.mark.parametrize(("kind", "form", "attribute"), DROPPED)
def test_what_lacks_something_is_refused_with_its_name(installed, kind, form, attribute):
    installed(kind, {"brought": whole(kind, form, attribute)})
    with pytest.raises(InputError) as refused:
        plugin(kind, "brought")
    assert f"{kind} 'brought'" in str(refused.value) and f"lacks {attribute}" in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("kind", "part", "method"),
    [(k, part, m) for k, p in KINDS.items() for part, contract in p.parts.items() for m in members(contract)],
)
def test_a_class_that_lacks_a_method_is_refused_with_its_name(installed, kind, part, method):
    module = whole(kind)
    wanted = [name for name in members(KINDS[kind].parts[part]) if name != method]
    setattr(module, part, type(part, (), {name: lambda self: None for name in wanted}))
    installed(kind, {"brought": module})
    with pytest.raises(InputError, match=rf"lacks {part}\.{method};"):
        plugin(kind, "brought")


@pytest.mark.parametrize("kind", KINDS)
def test_a_package_brings_a_plug_in_of_any_kind(installed, kind):
    module = whole(kind)
    module.__doc__ = "What it does.\n\nAnd more."
    installed(kind, {"brought": module})
    assert plugin(kind, "brought") is module and "brought" in KINDS[kind].names()
    assert any(line.split(maxsplit=1) == ["brought", "What it does."] for line in KINDS[kind].listing().splitlines())


def test_settings_that_are_no_knobs_are_refused(installed):
    @dataclasses.dataclass
    class Thawed:
        width: int = 4

    @dataclasses.dataclass(frozen=True)
    class WithoutDefault:
        width: int

    for config, message in ((Thawed, "Config is not a frozen dataclass"), (WithoutDefault, "without default, width")):
        module = whole("loss")
        module.Config = config
        installed("loss", {"brought": module})
        with pytest.raises(InputError, match=message):
            plugin("loss", "brought")


@pytest.mark.parametrize("kind", [kind for kind, plugins in KINDS.items() if plugins.form])
def test_an_unknown_form_is_refused(installed, kind):
    module = whole(kind)
    setattr(module, KINDS[kind].form, "all of it")
    installed(kind, {"brought": module})
    with pytest.raises(InputError, match=f"{KINDS[kind].form} is 'all of it'; expected one of: "):
        plugin(kind, "brought")


def test_a_name_that_is_taken_is_refused(installed):
    installed("loss", {"bpr": types.ModuleType("bpr")})
    with pytest.raises(
        InputError, match="entry point bpr of .* this library already has a loss of this name; rename it"
    ):
        KINDS["loss"].names()


@pytest.mark.parametrize("name", ["_private", "two words", "1st", "a.b"])
def test_a_name_that_no_file_could_have_is_refused(installed, name):
    installed("loss", {name: types.ModuleType("any")})
    with pytest.raises(InputError, match="the name is not valid; expected letters, digits and _,"):
        KINDS["loss"].names()


def test_a_module_that_is_not_there_is_one_line(installed):
    installed("loss", {"absent": None})
    with pytest.raises(InputError, match="loss 'absent': brought_absent of .* cannot be imported .*No module named"):
        plugin("loss", "absent")
    assert "absent" in KINDS["loss"].names()  # listing imports nothing


def test_a_broken_package_stops_nobody_who_does_not_ask_for_it(installed, caplog):
    installed("loss", {"absent": None, "empty": types.ModuleType("empty"), "whole": whole("loss")})
    assert KINDS["loss"].modules().keys() - {"bce", "bpr", "softmax"} >= {"whole"}
    assert not KINDS["loss"].modules().keys() & {"absent", "empty"}
    assert "loss 'absent'" in caplog.text and "loss 'empty'" in caplog.text and "left out" in caplog.text


def test_whatever_a_module_raises_while_it_is_imported_is_one_line(installed, tmp_path, monkeypatch):
    (tmp_path / "brought_torn.py").write_text("def value(:")
    monkeypatch.syspath_prepend(tmp_path)
    installed("loss", {"torn": None})
    with pytest.raises(
        InputError, match=r"loss 'torn': .* cannot be imported \(SyntaxError: .*brought_torn.py, line 1"
    ):
        plugin("loss", "torn")


@pytest.mark.parametrize(("kind", "name"), EVERY, ids="-".join)
def test_a_wrong_name_suggests_the_right_one(kind, name):
    """One letter dropped, in capitals."""
    wrong = (name[:2] + name[3:] if len(name) > 3 else name[:2]).upper()
    with pytest.raises(InputError, match=rf"^{kind} '{wrong}' is not known; expected one of: .*{name}.*\?$"):
        plugin(kind, wrong)


def test_an_unknown_kind_is_named():
    with pytest.raises(InputError, match="kind of plug-in 'bakbone' is not known; .*; did you mean backbone"):
        plugin("bakbone", "sasrec")


def test_kinds_have_entry_points_of_their_own():
    groups = [plugins.group for plugins in KINDS.values()]
    assert len(set(groups)) == len(groups) and "llmesr_jax.backbones" in groups


def test_nearest_is_nothing_where_nothing_is_near():
    assert nearest("zzz", ["sasrec", "gru4rec"]) == []
    assert all(nearest(a, [a, b]) == [a] for a, b in itertools.permutations(["full", "sampled", "both"], 2))
