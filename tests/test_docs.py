"""The documentation: links lead somewhere, and the site is built without a warning."""

import importlib.util
import re
import subprocess
import sys

import commands
import pytest

PAGES = sorted([*commands.PROJECT.glob("*.md"), *commands.PROJECT.glob("docs/*.md")])
GENERATED = "reference/"  # pages of the site that are made when it is built
LINK = re.compile(r"\]\(([^)\s]+)\)")


def anchors(text):
    """The anchors of a page's headings, as GitHub and MyST make them."""
    titles = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for link in LINK.findall(re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)):
        file, _, anchor = link.partition("#")
        if file.startswith(("http", "mailto:", GENERATED)):
            continue
        target = page.parent / file if file else page
        assert target.exists(), f"{page.name}: {link}"
        assert not anchor or anchor in anchors(target.read_text()), f"{page.name}: {link}"


def commands_in(text):
    """(command, flag) for each flag of the commands in a page's blocks."""
    for block in re.findall(r"^```(?:bash)?\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        for line in block.replace("\\\n", " ").splitlines():
            for command, rest in re.findall(r"(?:python -m launch\.|\bllmesr )(\w+)([^;&|#]*)", line):
                for flag in re.findall(r"(?<!\S)--([\w.]+)", rest):
                    yield command, flag


def flags_of(text):
    """{command: its flags}, of the page of commands."""
    found = {}
    for part in re.split(r"^## launch\.", text, flags=re.MULTILINE)[1:]:
        heads = [re.split(r"\s{2,}", line)[0] for line in re.findall(r"^  (--\S.*)$", part, re.MULTILINE)]
        pairs = [pair for head in heads for pair in re.findall(r"--(\[no\])?(\w+)", head)]
        found[part.split()[0]] = {name for _, name in pairs} | {f"no{name}" for no, name in pairs if no}
    return found


def keys_of(text):
    """The settings, of their page."""
    parts = re.split(r"^## ", text, flags=re.MULTILINE)[1:]
    return {
        f"{part.splitlines()[0]}.{name}" for part in parts for name in re.findall(r"^\| `(\w+)`", part, re.MULTILINE)
    }


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("sphinx") is None, reason="needs the extra docs")
def test_the_site_is_built_without_a_warning(tmp_path):
    command = [
        sys.executable,
        "-m",
        "sphinx",
        "-W",
        "--keep-going",
        "-q",
        "-d",
        tmp_path / "trees",
        "docs",
        tmp_path / "site",
    ]
    done = subprocess.run(command, cwd=commands.PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    settings = (tmp_path / "site" / "reference" / "settings.html").read_text()
    assert all(name in settings for name in ("tfidf_width", "mask_share", "valid_protocol"))
    reference = commands.PROJECT / "docs" / "reference"  # written by the build
    flags = flags_of((reference / "commands.md").read_text())
    keys = keys_of((reference / "settings.md").read_text())
    assert len(flags) >= 15 and len(keys) > 200
    used = [(page.name, *one) for page in PAGES for one in commands_in(page.read_text())]
    assert len(used) > 300
    config = "config."
    wrong = [
        (page, command, flag)
        for page, command, flag in used
        if (
            flag[len(config) :] not in keys
            if flag.startswith(config)
            else flag not in flags[command] | {"help", "config"}
        )
    ]
    assert not wrong
