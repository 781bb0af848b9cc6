"""Fetches public files over HTTP: with progress, resumed where it broke off, whole or not at all.

What has come so far lies in `<name>.part`, with `<name>.part.json` saying of which version; only a file whose size (and
digest, where one is known) was checked gets its name.
"""

from __future__ import annotations

import http.client
import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

from absl import logging
from tqdm import tqdm

from llmesr_jax.core import files
from llmesr_jax.core.errors import InputError

_BLOCK = 2**18
_TIMEOUT = 60  # seconds without a byte
_WAITS = (1, 2, 4, 8, 16, 32)  # seconds before each further try; any progress starts them anew
_TRANSIENT = {408, 425, 429, 500, 502, 503, 504}


class _Broken(Exception):
    """A try that failed in a way that another one may not."""


def fetch_all(
    base_url: str,
    paths: Sequence[str],
    folder: Path,
    sha256: Mapping[str, str] | None = None,
    waits: Sequence[float] = _WAITS,
) -> list[Path]:
    """Fetches each of `paths` below `base_url` into `folder`, under its last part; files that are there are kept.

    `sha256` holds the digests that are known, by that last part.

    Raises:
      InputError: an address is none, a file is not to be had or not as it should be.
    """
    if urlsplit(base_url).scheme not in ("http", "https"):
        raise InputError(f"--base_url={base_url}: wanted an address that starts with http:// or https://")
    base = base_url if base_url.endswith("/") else base_url + "/"
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for path in paths:
        target = folder / path.rsplit("/", 1)[-1]
        if not target.exists():
            fetch(urljoin(base, path), target, sha256=(sha256 or {}).get(target.name), waits=waits)
        found.append(target)
    return found


def fetch(
    url: str,
    target: Path,
    *,
    size: int | None = None,
    sha256: str | None = None,
    waits: Sequence[float] = _WAITS,
) -> None:
    """Fetches one file.

    Args:
      url: http or https.
      target: gets its name when it is whole.
      size: bytes it must have; the server's word where not given.
      sha256: hex digest it must have; not checked where not given.
      waits: seconds before each further try after one without progress.

    Raises:
      InputError: the server has no such file, keeps failing, or sends something else.
    """
    part, tries = target.with_name(target.name + ".part"), 0
    while True:
        before = _size(part)
        try:
            _attempt(url, part, size)
            break
        except _Broken as error:
            tries = 0 if _size(part) > before else tries + 1
            if tries > len(waits):
                raise InputError(
                    f"{url}: {error}, {tries} times in a row; what came is kept in {part}; the same command continues"
                ) from error
            logging.warning("%s: %s; trying again", url, error)
            time.sleep(waits[max(tries - 1, 0)] if waits else 0)
    if sha256 is not None and (found := files.sha256(part)) != sha256:
        _discard(part)
        raise InputError(f"{url}: has sha256 {found}, wanted {sha256}; the file there is another one; see --base_url")
    os.replace(part, target)
    _note(part).unlink(missing_ok=True)


def _attempt(url: str, part: Path, size: int | None) -> None:
    """One request, which continues `part` where it can, and after which it is whole.

    Raises:
      _Broken: another try may succeed. InputError: none will.
    """
    have, noted = _size(part), _noted(part, url)
    if have and have == noted["size"]:  # it was whole already when the command was stopped
        return
    version = noted["version"]
    headers = {"Accept-Encoding": "identity", "User-Agent": "llmesr-jax"}
    if have and version:
        headers |= {"Range": f"bytes={have}-", "If-Range": version}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=_TIMEOUT) as response:
            _receive(response, url, part, have, size)
    except urllib.error.HTTPError as error:
        with error:
            if error.code == 416:  # the part is longer than the file, so it is no part of it
                _discard(part)
                raise _Broken("the file has changed meanwhile") from error
            if error.code in _TRANSIENT:
                raise _Broken(f"the server answers {error.code} {error.reason}") from error
            raise InputError(
                f"{url}: the server answers {error.code} {error.reason}; wanted the file; see --base_url, or fetch it "
                "by hand into --raw_dir"
            ) from error
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
        reason = getattr(error, "reason", None) or error
        raise _Broken(f"no connection ({ascii(str(reason))[1:81] or type(error).__name__})") from error


def _receive(response: Any, url: str, part: Path, have: int, size: int | None) -> None:
    """Writes the answer to `part`, at its end where the server continues, else from the start."""
    kind = response.headers.get_content_type()
    if kind == "text/html":
        raise InputError(f"{url}: is a web page; wanted the file; see --base_url, or fetch it by hand into --raw_dir")
    start, length = 0, response.headers.get("Content-Length", "")
    if response.status == 206:
        span = response.headers.get("Content-Range", "").removeprefix("bytes ").partition("/")[0]
        if span.partition("-")[0] != str(have):
            _discard(part)
            raise _Broken("the server continues at another place")
        start = have
    if not length.isdigit():
        if size is None:
            raise InputError(
                f"{url}: the server does not say how long the file is, so a broken one would look whole; "
                "fetch it by hand into --raw_dir"
            )
        length = str(size - start)
    whole = start + int(length)
    if size is not None and whole != size:  # not worth its time
        _discard(part)
        raise InputError(f"{url}: has {whole} bytes, wanted {size}; the file there is another one; see --base_url")
    version = response.headers.get("ETag", "")
    version = response.headers.get("Last-Modified", "") if not version or version.startswith("W/") else version
    if not start:  # before the note: what one version left is never continued with another
        part.unlink(missing_ok=True)
    _note(part).write_text(json.dumps({"url": url, "version": version, "size": whole}))
    with part.open("ab" if start else "wb") as file:
        with tqdm(total=whole, initial=start, desc=part.stem, unit="B", unit_scale=True, disable=None) as bar:
            while block := response.read(min(_BLOCK, whole - file.tell())) if file.tell() < whole else b"":
                file.write(block)
                bar.update(len(block))
    if _size(part) < whole:
        raise _Broken(f"the connection broke off after {_size(part)} of {whole} bytes")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _note(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _noted(part: Path, url: str) -> dict[str, Any]:
    """{version, size} of the file that `part` is of, as the server told them; "" and 0 where that is not known."""
    try:
        note = json.loads(_note(part).read_text())
        return note if note["url"] == url and {"version", "size"} <= note.keys() else {"version": "", "size": 0}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {"version": "", "size": 0}


def _discard(part: Path) -> None:
    part.unlink(missing_ok=True)
    _note(part).unlink(missing_ok=True)
