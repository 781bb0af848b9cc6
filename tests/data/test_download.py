"""Downloads from a server on loopback that cuts connections, ignores ranges, and answers with errors."""

import contextlib
import hashlib
import http.server
import json
import threading

import pytest

from llmesr_jax.core.errors import InputError
from llmesr_jax.data import download

BODY = bytes(range(256)) * 4096  # 1 MiB
QUICK = (0, 0, 0)


class Server(http.server.ThreadingHTTPServer):
    """Serves `body` at any path; `faults` are taken one a request, `asked` are the ranges that were asked for."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.body, self.faults, self.asked, self.etag, self.kind = BODY, [], [], '"1"', "application/gzip"

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/files/"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        server.asked.append(self.headers.get("Range"))
        fault = server.faults.pop(0) if server.faults else None
        if isinstance(fault, int):
            self.send_error(fault)
            return
        if str(fault).startswith("to "):
            self.send_response(302)
            self.send_header("Location", fault.removeprefix("to "))
            self.end_headers()
            return
        start = 0
        span = self.headers.get("Range", "")
        if span and fault != "ignores the range" and self.headers["If-Range"] == server.etag:
            start = int(span.removeprefix("bytes=").rstrip("-"))
            if start >= len(server.body):
                self.send_error(416)
                return
            self.send_response(206)
            at = start + 1 if fault == "another place" else start
            self.send_header("Content-Range", f"bytes {at}-{len(server.body) - 1}/{len(server.body)}")
        else:
            self.send_response(200)
        rest = server.body[start:]
        if fault != "no length":
            self.send_header("Content-Length", str(len(rest)))
        self.send_header("ETag", server.etag)
        self.send_header("Content-Type", server.kind)
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(rest[: len(rest) // 2] if fault == "cut" else rest)

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def fetch(server, tmp_path):
    def fetch(**options):
        download.fetch(server.url + "a.gz", tmp_path / "a.gz", **{"waits": QUICK, **options})
        assert [path.name for path in tmp_path.iterdir()] == ["a.gz"]
        return (tmp_path / "a.gz").read_bytes()

    return fetch


def test_a_whole_file(fetch, server):
    assert fetch(size=len(BODY), sha256=hashlib.sha256(BODY).hexdigest()) == BODY
    assert server.asked == [None]


def test_a_cut_transfer_is_resumed_and_not_started_again(fetch, server):
    server.faults = ["cut", "cut"]
    assert fetch() == BODY
    half = len(BODY) // 2
    assert server.asked == [None, f"bytes={half}-", f"bytes={half + half // 2}-"]


def test_every_byte_that_came_is_kept(fetch, server):
    server.body, server.faults = BODY[:300_001], ["cut"]
    assert fetch() == BODY[:300_001]
    assert server.asked == [None, "bytes=150000-"]


def test_tries_are_counted_anew_after_progress(fetch, server):
    server.faults = [503, 503, "cut", 503, 503, 503]
    assert fetch() == BODY
    assert len(server.asked) == 7


def test_a_file_that_lies_elsewhere(fetch, server):
    server.faults = ["to /moved/a.gz"]
    assert fetch() == BODY


def test_a_later_command_resumes(fetch, server, tmp_path):
    server.faults = ["cut", 503, 503]
    with pytest.raises(
        InputError, match=r"503 Service Unavailable, 2 times in a row; the bytes so far are kept in .*a\.gz\.part"
    ):
        fetch(waits=(0,))
    assert not (tmp_path / "a.gz").exists() and (tmp_path / "a.gz.part").stat().st_size == len(BODY) // 2
    assert fetch() == BODY
    assert server.asked[-1] == f"bytes={len(BODY) // 2}-"


def test_a_file_that_was_whole_when_the_command_was_killed(fetch, server, tmp_path):
    (tmp_path / "a.gz.part").write_bytes(BODY)
    note = {"url": server.url + "a.gz", "version": server.etag, "size": len(BODY)}
    (tmp_path / "a.gz.part.json").write_text(json.dumps(note))
    assert fetch() == BODY
    assert server.asked == []


@pytest.mark.parametrize("note", ["", "{}", "[1]", "{half"])
def test_a_part_of_nobody_knows_what_is_fetched_anew(fetch, server, tmp_path, note):
    (tmp_path / "a.gz.part").write_bytes(b"of something else")
    (tmp_path / "a.gz.part.json").write_text(note)
    assert fetch() == BODY
    assert server.asked == [None]


@pytest.mark.parametrize("fault", ["ignores the range", "another place"])
def test_a_server_that_does_not_continue_as_asked(fetch, server, fault):
    server.faults = ["cut", fault]
    assert fetch() == BODY


def test_a_file_that_changed_meanwhile_is_fetched_anew(fetch, server, tmp_path):
    server.faults = ["cut", 404]
    with pytest.raises(InputError):
        fetch()
    server.body, server.etag = BODY[::-1], '"2"'
    assert fetch() == BODY[::-1]


def test_a_file_that_shrank_meanwhile(fetch, server):
    server.faults = ["cut", 404]
    with pytest.raises(InputError):
        fetch()
    server.body = b"short"
    assert fetch() == b"short"


def test_errors_of_the_server_are_tried_again(fetch, server):
    server.faults = [500, 503, 429]
    assert fetch() == BODY


@pytest.mark.parametrize(
    ("prepare", "options", "message"),
    [
        ({"faults": [404]}, {}, "the server answers 404 Not Found; expected the file"),
        ({"faults": [403]}, {}, "the server answers 403 Forbidden"),
        ({"faults": [500] * 9}, {}, "the server answers 500 Internal Server Error, 4 times in a row"),
        ({"faults": ["to ftp://host/a.gz"]}, {}, "unsupported protocol.*expected the file"),
        ({"faults": ["to /a.gz"] * 30}, {}, "[Rr]edirect.*expected the file"),
        ({"kind": "text/html; charset=utf-8"}, {}, "is a web page"),
        ({"faults": ["no length"]}, {}, "does not state the file's length, so a cut file would look complete; download the file"),
        ({}, {"size": 7}, f"has {len(BODY)} bytes, expected 7"),
        ({}, {"sha256": "0" * 64}, "has sha256 .*, expected 0000"),
    ],
)  # fmt: skip
def test_what_cannot_be_had_leaves_nothing_that_looks_whole(fetch, server, tmp_path, prepare, options, message):
    vars(server).update(prepare)
    with pytest.raises(InputError, match=message) as caught:
        fetch(**options)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "a.gz").exists()


def test_nobody_listens(tmp_path):
    with Server() as server:
        url = server.url
    with pytest.raises(InputError, match="no connection"):
        download.fetch(url + "a", tmp_path / "a", waits=(0,))
    assert list(tmp_path.iterdir()) == []


def test_a_known_size_stands_for_an_unknown_length(fetch, server):
    server.faults = ["no length"]
    assert fetch(size=len(BODY)) == BODY


def test_all_files_below_an_address_and_those_that_are_there_are_kept(server, tmp_path):
    (tmp_path / "b.gz").write_text("mine")
    found = download.fetch_all(server.url.rstrip("/"), ["x/a.gz", "y/b.gz"], tmp_path, waits=QUICK)
    assert [path.read_bytes() for path in found] == [BODY, b"mine"]
    assert server.asked == [None]


def test_a_known_digest_is_checked(server, tmp_path):
    with pytest.raises(InputError, match="b.gz: has sha256 .*, expected 0000"):
        download.fetch_all(server.url, ["a.gz", "b.gz"], tmp_path, {"b.gz": "0" * 64}, QUICK)
    assert [path.name for path in tmp_path.iterdir()] == ["a.gz"]


@pytest.mark.parametrize("url", ["file:///etc/", "ftp://host/", "nonsense"])
def test_other_addresses_are_refused(url, tmp_path):
    with pytest.raises(InputError, match="expected one that starts with http"):
        download.fetch_all(url, ["passwd"], tmp_path)
