"""Which bundles are served, how they are replaced, and that the page's files are whole and keep to themselves."""

import re
from importlib import resources
from pathlib import Path
from types import SimpleNamespace

import http_service
import pytest

http_service.required()

from llmesr_jax.core.errors import InputError
from llmesr_jax.serving.http import bundles, ready, server

STATIC = {file.name: file.read_text() for file in (resources.files("llmesr_jax.serving.http") / "static").iterdir()}


def test_names_of_bundles():
    found = bundles.named(["a=x/y, b", "w/c"])
    assert found == {"a": Path("x/y"), "b": Path("b"), "c": Path("w/c")} and next(iter(found)) == "a"
    for given, said in (
        ([], "--bundle is missing"),
        ([","], "--bundle is missing"),
        (["a=x", "a=y"], "the name a appears twice"),
        (["a b=x"], "'a b' is not a valid name"),
        (["a="], "is not a valid name"),
    ):
        with pytest.raises(InputError, match=said):
            bundles.named(given)


def test_bundles_are_replaced_together_or_not_at_all(monkeypatch):
    folders = {"a": Path("a"), "b": Path("b")}
    now = {"a": "1", "b": "1"}

    def load(folder):
        if now[folder.name] == "bad":
            raise InputError("b: is damaged")
        return SimpleNamespace(digest=now[folder.name])

    monkeypatch.setattr(ready, "load", load)
    monkeypatch.setattr(ready, "digest_of", lambda folder: now[folder.name])
    served = bundles.Bundles(folders)
    before = served.get("a")[1]
    assert served.reload() == [] and served.get("a")[1] is before and served.failed == ""
    now.update(a="2", b="bad")
    assert served.reload() == [] and served.get("a")[1] is before and served.failed == "b: is damaged"
    now.update(b="2")
    assert served.reload() == ["a", "b"] and served.get("a")[1].digest == "2" and served.failed == ""
    assert before.digest == "1"  # a request that began with it ends with it
    with pytest.raises(bundles.UnknownBundle, match="bundle 'c' is not served; expected one of: a, b"):
        served.get("c")


def test_a_port_that_cannot_be_had():
    with server.bound("127.0.0.1", 0) as taken:
        taken.listen()
        with pytest.raises(InputError, match="in use; stop the program that uses the port, or choose another --port"):
            server.bound("127.0.0.1", taken.getsockname()[1])
    with pytest.raises(InputError, match="expected an address of this machine"):
        server.bound("no such host", 1)


def test_the_pages_files_keep_to_themselves():
    """No address but the SVG's namespace, no markup made of data, and every file that is named is there."""
    assert set(STATIC) == {"index.html", "docs.html", "page.js", "docs.js", "ask.js", "style.css", "icon.svg"}
    for name, text in STATIC.items():
        assert set(re.findall(r"\w+://[^\"' )]+", text)) <= {"http://www.w3.org/2000/svg"}, name
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|\son\w+=|<style| style=", text
        ), name
        for linked in re.findall(r"/static/([\w.]+)|\./([\w.]+\.js)", text):
            assert "".join(linked) in STATIC, (name, linked)
    for page in ("index.html", "docs.html"):
        assert all("src=" in tag for tag in re.findall(r"<script[^>]*>", STATIC[page]))
