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
