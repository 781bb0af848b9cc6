"""`python -m launch.report` on trained runs: the files it writes, the lists it shows, and the page in a browser."""

import dataclasses
import json
import re
import shutil
from pathlib import Path

import commands
import numpy as np
import pytest

from llmesr_jax.core.errors import InputError
from llmesr_jax.experiments import drawing
from llmesr_jax.experiments.report import make
from llmesr_jax.ranking import engine, evaluate, inference
from llmesr_jax.training import runs, state

pytestmark = pytest.mark.slow

TITLE = "<script>document.title = 'owned'</script> {} & co"
# What is wider than the window and not inside a part that scrolls by itself.
OVERFLOWING = """[...document.querySelectorAll('body *')]
    .filter(x => !x.closest('.scroll, nav, svg') && x.getBoundingClientRect().right > innerWidth)
    .map(x => x.outerHTML.slice(0, 80))"""
QUICK = make.Options(resamples=100, users=0, items=0)
# A Debian or Google build, or the one that playwright keeps.
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@pytest.fixture(scope="module")
def nasty(tmp_path_factory):
    """The small data with titles that are markup."""
    folder = commands.write_data(tmp_path_factory.mktemp("nasty") / "tiny")
    records = [json.loads(line) for line in (folder / "items.jsonl").read_text().splitlines()]
    lines = [json.dumps(r | {"title": TITLE.format(f"{r['title']} {r['item_id']}")}) for r in records]
    (folder / "items.jsonl").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="module")
def trained(train, nasty, tmp_path_factory):
    """Two methods with two seeds each, in w/none and w/llminit; read only."""
    cwd = tmp_path_factory.mktemp("trained")
    args = ("--method=none,llminit", "--seeds=1,2", "--epochs=2", "--workdir=w", f"--data_dir={nasty}")
    result = train(*args, cwd=cwd)
    assert result.status == 0, result.err
    return cwd


@pytest.fixture(scope="module")
def report(environment):
    """report(*args, cwd=...) -> Result of launch.report."""
    return lambda *args, cwd, **changes: commands.finish(
        commands.start("-m", "launch.report", *args, cwd=cwd, env={**environment, **changes})
    )


@pytest.fixture(scope="module")
def made(trained, report):
    before = contents(trained / "w")
    result = report("w", "--out=r", cwd=trained)
    assert (result.status, result.err) == (0, "" if drawing.installed() else result.err)
    assert contents(trained / "w") == before, "a run's folder was changed"
    return trained / "r", result


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_it_ends_with_the_tables_and_the_page(trained, made):
    folder, result = made
    assert result.out.endswith("r/report.html: the page; tables and figures are beside it\n")
    stored = {m: json.loads((trained / "w" / m / "results.json").read_text())["test"] for m in ("none", "llminit")}
    for method, of in stored.items():
        cell = evaluate.cell(of["full"]["overall"]["H@10"])
        assert re.search(rf"^{method} +{cell} ", result.out, re.MULTILINE)
    page = (folder / "report.html").read_text()
    assert '<section id="data"><h2>The data ' in page and "Only 60 users are tested" in page
    assert '<a href="#data">read' in page and "first</a>" in page
    figures = {path.name for path in (folder / "figures").glob("*")} if drawing.installed() else set()
    assert not drawing.installed() or {"tiny-user-length.svg", "tiny-item-popularity.svg"} <= figures
    assert "full N@10 against none, 5 comparisons: " in result.out
    names = {f"tiny-{p}.{e}" for p in ("full", "sampled") for e in ("md", "csv", "tex")}
    names |= {f"tiny-{kind}.csv" for kind in ("groups", "tests", "improvements")} | {"report.html", "report-files.txt"}
    names |= {f"{table}.{ending}" for table in ("tiny-lists", "tiny-views", "data-sets") for ending in ("md", "tex")}
    assert names == {path.name for path in folder.iterdir() if path.is_file()}
    listed = (folder / "report-files.txt").read_text().splitlines()
    assert {*listed, "report-files.txt"} == {str(name) for name in contents(folder)}


def test_the_same_runs_give_the_same_bytes(trained, made, report):
    result = report("--workdir=w", "--out=r2", cwd=trained)  # a folder may be named either way
    assert result.status == 0 and contents(trained / "r2") == contents(made[0])


def test_what_is_shown_is_what_the_model_recommends(trained, made, nasty):
    """The first tail user's list of `llminit`, computed as the README does."""
    page = (made[0] / "report.html").read_text()
    user = int(re.search(r"<h3>User (\d+)</h3>", page)[1])
    card = page[page.index(f"<h3>User {user}</h3>") : page.index("</article>")]
    run = runs.load(trained / "w" / "llminit")
    e, params, test = run.experiment, state.take(run.params_S, 0), evaluate.inputs(run.experiment.corpus, "test")
    stops = e.corpus.lengths_U[test.rows_E] - 1
    past = inference.histories(e.corpus, test.rows_E, stops, e.epochs.plan.config, e.recommender.supervision)
    vectors = inference.user_vectors(e.recommender, params, run.tables, past)
    items = inference.item_vectors(e.recommender, params, run.tables)
    place = int(np.flatnonzero(test.rows_E == user - 1)[0])
    best = np.asarray(engine.top_k(vectors, items, 5, test.hidden)[place])
    shown = card[card.index("</span>LLMInit") :]
    listed = [int(n) for n in re.findall(r"(\d+) &amp; co", shown)]
    assert listed == best.tolist()
    bought = [int(n) for n in re.findall(r"(\d+) &amp; co", card[card.index("Bought") : card.index("</ol>")])]
    start = e.corpus.offsets[user - 1]
    assert bought == e.corpus.items[start : start + stops[place]][-8:].tolist()
    target = int(re.search(r"(\d+) &amp; co", card[card.index("Came next") :])[1])
    assert target == e.corpus.test_U[user - 1]
    with np.load(trained / "w" / "llminit" / "ranks.npz") as file:
        rank = int(file["test/full/1"][0, place]) + 1
    assert f"ranks it no. {rank}<" in shown


def test_without_matplotlib_there_are_tables_and_a_page(trained, report, tmp_path):
    hidden = tmp_path / "hidden" / "matplotlib"
    hidden.mkdir(parents=True)
    (hidden / "__init__.py").write_text("raise ImportError('hidden')\n")
    path = f"{tmp_path / 'hidden'}:{commands.PROJECT}"
    result = report("w", f"--out={tmp_path / 'r'}", "--users=0", "--items=0", cwd=trained, PYTHONPATH=path)
    wanted = "warning: the report will have no figures, as matplotlib is not installed; run pip install matplotlib\n"
    assert (result.status, result.err) == (0, wanted)
    page = (tmp_path / "r" / "report.html").read_text()
    assert "<svg " not in page and "Differences and tests" in page and "</html>" in page
    assert not (tmp_path / "r" / "figures").exists() and (tmp_path / "r" / "tiny-full.tex").exists()


def test_data_and_checkpoints_that_are_gone(trained, nasty, tmp_path, monkeypatch, caplog):
    """Tables and tests over seeds are still made; with --data_dir the rest is, for the run that has its checkpoint."""
    shutil.copytree(trained / "w", tmp_path / "w")
    shutil.rmtree(tmp_path / "w" / "none" / "checkpoints")
    for config in (tmp_path / "w").rglob("config.json"):
        config.write_text(config.read_text().replace(str(nasty), str(tmp_path / "gone")))
    monkeypatch.chdir(tmp_path)
    make.make(["w"], "", QUICK)
    assert f"{tmp_path / 'gone'}: no such folder; without the data of tiny there are no tests" in caplog.text
    page = (tmp_path / "w" / "report" / "report.html").read_text()
    assert "<h3>User" not in page and "Differences and tests" in page
    caplog.clear()
    make.make(["w"], "", dataclasses.replace(QUICK, users=6, data_dir=(str(trained), str(nasty))))
    assert "none: has no checkpoint yet; item vectors and recommendations are left out" in caplog.text
    page = (tmp_path / "w" / "report" / "report.html").read_text()
    assert "<h3>User" in page and page.count("ranks it no.") == 6  # of llminit alone


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((), "no folder is named; expected the folder of a run, or of several: python -m launch.report runs/demo"),
        (
            ("--workdir=w,none", "w"),
            "w,none: no such folder; expected the folder of a run, or of several, made by launch.train",
        ),
        (("w", "--baseline=mine"), "--baseline=mine: no run has this name; expected one of: none, llminit"),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_written(trained, report, args, message):
    before = contents(trained)
    result = report(*args, cwd=trained)
    assert (result.status, result.out, result.err) == (2, "", f"error: {message}\n")
    assert contents(trained) == before


def test_a_place_that_cannot_be_written_to(trained, tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match="file: is a file; expected a folder for the report; choose another --out"):
        make.make([str(trained / "w")], str(tmp_path / "file" / "r"), QUICK)
    assert (tmp_path / "file").read_text() == "mine"


def test_a_baseline_by_the_name_of_its_folder(trained, tmp_path):
    options = dataclasses.replace(QUICK, baseline=str(trained / "w" / "llminit"))
    assert "full N@10 against llminit, 5 comparisons: " in make.make([str(trained / "w")], str(tmp_path / "r"), options)


def test_runs_of_one_method_that_is_not_the_baseline(trained, tmp_path, caplog):
    text = make.make([str(trained / "w" / "llminit")], str(tmp_path / "r"), QUICK)
    assert "tiny: no run has method none, so nothing is tested; choose another --baseline" in caplog.text
    assert "comparisons" not in text and not (tmp_path / "r" / "tiny-tests.csv").exists()
    assert "Differences and tests" not in (tmp_path / "r" / "report.html").read_text()


def test_an_earlier_report_leaves_nothing_that_is_no_longer_true(trained, tmp_path):
    target = tmp_path / "r"
    make.make([str(trained / "w")], str(target), QUICK)
    (target / "figures").mkdir(exist_ok=True)
    mine = [target / "mine.csv", target / "figures" / "mine.svg"]
    for path in mine:
        path.write_text("mine")
    assert (target / "tiny-tests.csv").exists()
    with (target / "report-files.txt").open(
        "a"
    ) as file:  # spoilt: nothing but a report's own kinds of files is deleted
        file.write("../outside-tests.csv\nmine.csv\nreport-files.txt\n")
    (tmp_path / "outside-tests.csv").write_text("mine")
    make.make([str(trained / "w" / "llminit")], str(target), QUICK)
    assert not (target / "tiny-tests.csv").exists() and (target / "tiny-full.csv").exists()
    assert all(path.read_text() == "mine" for path in [*mine, tmp_path / "outside-tests.csv"])
    listed = (target / "report-files.txt").read_text().splitlines()
    assert {*listed, "report-files.txt", "mine.csv", "figures/mine.svg"} == {str(name) for name in contents(target)}


@pytest.fixture(scope="module")
def browser():
    """Chromium without a screen; skips where there is none."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="the browser's test needs pip install playwright")
    with sync_api.sync_playwright() as playwright:
        own = Path(playwright.chromium.executable_path)
        found = next((path for name in BROWSERS if (path := shutil.which(name))), own if own.exists() else None)
        if found is None:
            pytest.skip(f"no browser: none of {', '.join(BROWSERS)} is installed")
        flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
        chromium = playwright.chromium.launch(executable_path=str(found), args=flags)
        yield chromium
        chromium.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_in_a_browser(browser, made, trained, width, scheme):
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page, said, asked = context.new_page(), [], []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto((made[0] / "report.html").as_uri())
    for summary in page.locator("summary").all():
        summary.click()
    assert said == [] and len(asked) == 1  # the page itself
    assert page.title() == "tiny: recommendation report"  # no title's script has run
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    wide = page.evaluate(OVERFLOWING)
    assert wide == []
    dark = sum(map(int, re.findall(r"\d+", page.evaluate("getComputedStyle(document.body).backgroundColor"))[:3])) < 200
    assert dark == (scheme == "dark")

    users = page.locator("#users article")
    assert users.count() == 6
    assert re.search(r"<script>document.title = 'owned'</script> .* & co", users.first.inner_text())
    for table in page.locator("#results table").all():
        assert table.locator("tbody tr").count() == 2 + 1  # and the row "Impr."
    shown = [table for table in page.locator("#results table").all() if table.is_visible()]
    columns = [table.locator("tbody tr").first.locator("td").count() for table in shown]
    assert columns == ([10, 10] if width > 1120 else [5, 5, 5, 5])  # full first; a table a metric where it is narrow
    page.evaluate("document.querySelector('#results').scrollIntoView()")
    assert shown[0].locator("thead th").first.inner_text().split()[0] == "full"
    assert shown[0].locator("thead th").first.evaluate("x => getComputedStyle(x).position") == "sticky"
    assert page.locator("#tests details table tbody tr").count() == 2 * 5
    assert page.locator("#runs tbody tr").count() == 2 and "w/llminit" in page.locator("#runs").inner_text()
    if drawing.installed():
        panels = page.locator("figure svg")
        # tail, groups, trade-off, coverage, items, views, curves, data
        assert panels.count() == 3 + 6 + 2 + 2 + 3 + 4 + 2 + 2
        for box in (panel.bounding_box() for panel in panels.all()):
            assert 250 < box["width"] <= width and box["height"] > 90
        ink = panels.first.locator("text").first.evaluate("x => getComputedStyle(x).fill")
        assert (sum(map(int, re.findall(r"\d+", ink)[:3])) > 400) == (scheme == "dark")
    context.close()
