"""launch.serve as a process: it answers as the bundle does, is replaced and ended under load, and is used in a browser."""

import asyncio
import contextlib
import dataclasses
import os
import re
import shutil
import signal
import socket
import threading
import time
from pathlib import Path

import commands
import http_service
import jax
import pytest
import served

from llmesr_jax.core.errors import InputError

pytestmark = pytest.mark.slow
http_service.required()
pytest.importorskip("flatbuffers")

import httpx

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome") or ""


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A folder with two bundles, `one` and `two`, of runs that differ in their numbers."""
    from llmesr_jax.serving import export

    folder, run = tmp_path_factory.mktemp("serve"), served.run()
    other = dataclasses.replace(run, params_S=jax.tree.map(lambda x: x[:, ::-1], run.params_S))
    for name, found in (("one", run), ("two", other)):
        export.export(found, folder / name, export.Settings(("cpu",)))
    return folder


@contextlib.contextmanager
def serving(workplace, environment, *args, **more):
    """A started service: (process, its address)."""
    process = commands.start("-m", "launch.serve", "--port=0", *args, cwd=workplace, env={**environment, **more})
    try:
        line = process.stdout.readline()
        found = re.search(r"http://\S+:\d+", line)
        assert found, line + process.stderr.read()
        yield process, found[0]
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def service(workplace, environment):
    """A service of `live`, a link to bundle `one`, and `two`."""
    (workplace / "live").symlink_to("one")
    with serving(workplace, environment, "--bundle=live", "--bundle=two", "--patience=1") as found:
        yield found


def address(url):
    host, port = url.removeprefix("http://").split(":")
    return host, int(port)


def test_it_answers_as_the_bundle(service, workplace):
    import llmesr_jax

    with httpx.Client(base_url=service[1]) as client:
        for name, folder in (("live", "one"), ("two", "two")):
            model = llmesr_jax.load_bundle(workplace / folder)
            for history in (["sku-1", "商品3", "nope"], [f"sku-{n}" for n in range(1, 30)] * 3, []):
                body = {"history": history, "k": 5, "bundle": name, "where": ["brand=Acme"]}
                answer = client.post("/recommend", json=body).json()
                (wanted,) = model.recommend([history], 5, where=["brand=Acme"])
                assert [one["item"] for one in answer["recommendations"]] == [r.item for r in wanted.recommendations]
                scores = [one["score"] for one in answer["recommendations"]]
                assert scores == pytest.approx([r.score for r in wanted.recommendations], rel=1e-5, abs=1e-5)
                assert (answer["source"], answer["unknown"]) == (wanted.source, wanted.unknown)


def test_raw_connections(service):
    """Clients that send no HTTP, too much of it, or nothing at all are dropped, and the service answers others."""
    where = address(service[1])
    head = b"POST /recommend HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    wanted = [
        (b"\x16\x03\x01\x02\x00hello", b"400"),
        (head + b"content-length: x\r\n\r\n", b"400"),
        (head + b"x: " + b"a" * 400_000, b"400"),
        (head + b"content-length: 99999999\r\n\r\n{", b"413"),
        (head + b"transfer-encoding: chunked\r\n\r\nzz\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nhost: evil.test\r\n\r\n", b"421"),
    ]
    for sent, status in wanted:
        with socket.create_connection(where, timeout=10) as one:
            one.sendall(sent)
            assert one.recv(100).split()[1] == status, sent[:80]
    slow = [b"", b"GET", b"\r\n\r\n", head, head + b"content-length: 10\r\n\r\n{"]
    started = time.monotonic()
    with contextlib.ExitStack() as stack:
        open_ = [stack.enter_context(socket.create_connection(where, timeout=10)) for _ in range(500)]
        for n, one in enumerate(open_):
            one.sendall(slow[n % len(slow)])
        assert httpx.get(f"{service[1]}/items?query=tea").status_code == 200
        for one in open_:
            with contextlib.suppress(ConnectionResetError):
                while one.recv(1000):
                    pass
    assert time.monotonic() - started < 10


def test_bundles_are_replaced_under_load(service, workplace):
    process, url = service
    statuses, over = [], threading.Event()

    async def load():
        async with httpx.AsyncClient(base_url=url, timeout=30) as client:

            async def client_of(n):
                while not over.is_set():
                    body = {"history": ["sku-4", f"sku-{n}"], "bundle": "live"}
                    statuses.append((await client.post("/recommend", json=body)).status_code)

            await asyncio.gather(*(client_of(n) for n in range(8)))

    thread = threading.Thread(target=lambda: asyncio.run(load()))
    thread.start()
    try:
        digest = lambda: re.search(r'bundle_items\{bundle="live",digest="(\w+)"', httpx.get(f"{url}/metrics").text)[1]  # noqa: E731
        before = digest()
        (workplace / "next").symlink_to("two")
        (workplace / "next").replace(workplace / "live")  # at once, as `ln -s` and `mv -T` do it
        process.send_signal(signal.SIGHUP)
        assert process.stdout.readline() == "replaced: live\n"
        assert digest() != before
    finally:
        over.set()
        thread.join()
    assert len(statuses) > 50 and set(statuses) == {200}
    process.send_signal(signal.SIGHUP)
    assert process.stdout.readline() == "no bundle has changed\n"


@pytest.mark.skipif(not CHROMIUM, reason="needs Chromium")
def test_the_page_in_a_browser(service):
    """A history is clicked together, by keyboard, too; lists and reasons are shown; nothing leaves the machine."""
    api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    url, problems, asked = service[1], [], []
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        for width, scheme in ((1280, "light"), (390, "dark")):
            page = browser.new_context(viewport={"width": width, "height": 844}, color_scheme=scheme).new_page()
            page.on("console", lambda message: problems.append(message.text))
            page.on("pageerror", lambda error: problems.append(str(error)))
            page.on("request", lambda request: asked.append(request.url))
            page.goto(url)
            page.wait_for_selector(".panel:nth-child(2) .list > li")
            assert page.get_by_text("Popular items: no item of the history is known.").count() == 2
            page.keyboard.press("/")
            page.keyboard.type("tee")
            api.expect(page.locator("#found li")).to_have_count(6)
            page.keyboard.press("ArrowDown")
            page.keyboard.press("ArrowDown")
            page.keyboard.press("Enter")
            page.locator("#found button").first.click()
            page.get_by_text("Based on the history.").nth(1).wait_for()
            assert page.locator("#history li").count() == 2
            names = page.locator("#history .title").all_inner_texts()
            page.locator("#history li").nth(1).get_by_role("button").first.click()
            api.expect(page.locator("[aria-busy=true]")).to_have_count(0)
            assert page.locator("#history .title").all_inner_texts() == names[::-1]
            page.get_by_role("button", name="Why").first.click()
            page.wait_for_selector(".why td")
            assert page.locator(".why tbody tr").count() == 2
            page.locator("summary").click()
            page.locator("#where").fill("brand=Acme")
            page.locator("#k").fill("3")
            api.expect(page.locator(".list > li")).to_have_count(6)
            page.locator("#where").fill("brand")
            page.get_by_text("is not understood").first.wait_for()
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            page.get_by_role("button", name="Clear").click()
            assert page.locator("#history li").count() == 0
            page.goto(f"{url}/docs")
            page.wait_for_selector("article:nth-child(6)")
            page.get_by_role("button", name="Try it").nth(3).click()
            page.get_by_text('"interactions"').first.wait_for()
            assert page.evaluate("document.documentElement.scrollWidth") <= width
        browser.close()
    assert {one.split("/")[2] for one in asked} == {url.split("/")[2]}
    assert all("400 (Bad Request)" in one for one in problems), problems  # the condition that was none


def test_a_kill_a_new_start_and_an_end(workplace, environment):
    """Killed, it starts again on its port. What has been asked when SIGTERM comes is answered, and the status is 0."""
    with serving(workplace, environment, "--bundle=one") as (process, url):
        answer = httpx.get(f"{url}/items").json()
        process.kill()
        process.wait()
    again = f"--port={address(url)[1]}"
    with serving(workplace, environment, "--bundle=one", again, "--deadline=20", LLMESR_TOKEN="t") as (process, same):
        assert same == url and httpx.get(f"{url}/items").status_code == 401
        assert httpx.get(f"{url}/items", headers={"authorization": "Bearer t"}).json() == answer
        statuses, gone = [], []

        def client_of(n):
            with httpx.Client(base_url=url, headers={"authorization": "Bearer t"}, timeout=30) as client:
                try:
                    while True:
                        statuses.append(
                            client.post(
                                "/explain", json={"history": ["sku-4", f"sku-{n}"], "item": "sku-1"}
                            ).status_code
                        )
                except httpx.TransportError as error:  # between two requests the connection ended
                    gone.append(error)

        threads = [threading.Thread(target=client_of, args=(n,)) for n in range(1, 9)]
        for thread in threads:
            thread.start()
        while len(statuses) < 20:
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        for thread in threads:
            thread.join()
        out, err = process.communicate(timeout=30)
        assert process.returncode == 0 and out.endswith("ended\n") and err == "", err
        assert set(statuses) == {200} and len(gone) == 8
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{url}/health")


@pytest.mark.parametrize(
    ("bundles", "host", "said"),
    [
        ((), "127.0.0.1", "--bundle is missing"),
        (("nowhere",), "127.0.0.1", "expected a bundle, a folder made by launch.export"),
        (("one",), "no such host", "expected an address of this machine"),
    ],
)
def test_what_it_refuses(workplace, monkeypatch, bundles, host, said):
    from llmesr_jax.serving.http import service

    monkeypatch.chdir(workplace)
    with pytest.raises(InputError, match=said):
        service.prepare(service.Settings(bundles, host, 0))


def test_without_the_extra(workplace, environment):
    (workplace / "without").mkdir(exist_ok=True)
    Path(workplace, "without", "uvicorn.py").write_text("raise ImportError(name='uvicorn')")
    hidden = {**environment, "PYTHONPATH": f"{workplace / 'without'}{os.pathsep}{environment['PYTHONPATH']}"}
    result = commands.finish(commands.start("-m", "launch.serve", cwd=workplace, env=hidden))
    assert (
        result.status == 2
        and result.err
        == "error: python -m launch.serve needs the package uvicorn; run pip install 'llmesr-jax[serve]'\n"
    )
