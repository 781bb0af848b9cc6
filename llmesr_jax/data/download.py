"""Downloads public files over HTTP: with progress, resumed after an interruption, complete or not at all.

Until a file is complete, its bytes are in `<name>.part`, and their version in `<name>.part.json`. It gets its name once
its size, and its digest if that is known, have been checked.
"""

from __future__ import annotations

import contextlib
import json
import os
import ssl
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

from absl import logging
from tqdm import tqdm

from llmesr_jax.core import files
from llmesr_jax.core.errors import InputError

if TYPE_CHECKING:  # httpx and tenacity are imported where something is fetched: most commands fetch nothing
    import httpx

_TIMEOUT = 60  # seconds without a byte
_WAITS = (1, 2, 4, 8, 16, 32)  # seconds before each further try; after any progress they begin again with the first
_HEADERS = {"Accept-Encoding": "identity", "User-Agent": "llmesr-jax"}
_TRANSIENT = {408, 425, 429, 500, 502, 503, 504}  # HTTP statuses after which another try may succeed


class _Broken(Exception):
    """A failed try; another try may succeed."""


def fetch_all(
    base_url: str,
    paths: Sequence[str],
    folder: Path,
    sha256: Mapping[str, str] | None = None,
    waits: Sequence[float] = _WAITS,
) -> list[Path]:
    """Downloads files into a folder; existing files are kept.

    Args:
      base_url: http or https; `paths` are relative to it.
      paths: each file is named by its path's last part.
      folder: made if absent.
      sha256: {name: hex digest}, where it is known.
      waits: as of `fetch`.

    Returns:
      The files, in the order of `paths`.

    Raises:
      InputError: an address is not valid, a file is not available, or its size or digest is wrong.
    """
    if urlsplit(base_url).scheme not in ("http", "https"):
        raise InputError(f"--base_url={base_url}: is not an address; expected one that starts with http:// or https://")
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
    """Downloads one file.

    Args:
      url: http or https.
      target: the file; it gets this name when it is complete.
      size: bytes it must have; by default the size that the server states.
      sha256: hex digest it must have; by default not checked.
      waits: seconds before each further try after a try without progress.

    Raises:
      InputError: the server has no such file, keeps failing, or sends another file.
    """
    part = target.with_name(target.name + ".part")
    _complete(url, part, size, waits)
    if sha256 is not None and (found := files.sha256(part)) != sha256:
        _discard(part)
        raise InputError(
            f"{url}: has sha256 {found}, expected {sha256}; the server has another version of the file; check "
            "--base_url"
        )
    os.replace(part, target)
    _note(part).unlink(missing_ok=True)


def _complete(url: str, part: Path, size: int | None, waits: Sequence[float]) -> None:
    """Tries until `part` is complete.

    Raises:
      InputError: no try can succeed, or too many in a row brought no bytes.
    """
    import tenacity

    have = _size(part)

    def count_anew_after_progress(state: tenacity.RetryCallState) -> None:
        nonlocal have
        if _size(part) > have:
            state.attempt_number = 0
        have = _size(part)

    tries = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(_Broken),
        after=count_anew_after_progress,
        stop=tenacity.stop_after_attempt(len(waits) + 1),
        wait=tenacity.wait_chain(*map(tenacity.wait_fixed, waits or (0,))),
        before_sleep=lambda state: logging.warning("%s: %s; trying again", url, state.outcome.exception()),
        reraise=True,
    )
    try:
        tries(_attempt, url, part, size)
    except _Broken as error:
        raise InputError(
            f"{url}: {error}, {len(waits) + 1} times in a row; the bytes so far are kept in {part}; run the same "
            "command again to continue"
        ) from error


def _attempt(url: str, part: Path, size: int | None) -> None:
    """One request, which continues `part` if the server can, and completes it.

    Raises:
      _Broken: another try may succeed.
      InputError: no try can succeed.
    """
    import httpx

    have, noted = _size(part), _noted(part, url)
    if have and have == noted["size"]:  # it was already complete when an earlier command was stopped
        return
    continued = {"Range": f"bytes={have}-", "If-Range": noted["version"]} if have and noted["version"] else {}
    options = {
        "headers": _HEADERS | continued,
        "timeout": _TIMEOUT,
        "follow_redirects": True,
        "verify": ssl.create_default_context(),  # the machine's own certificates, which may include a proxy's
    }
    try:
        with httpx.stream("GET", url, **options) as response:
            _check_answer(response, url, part)
            _receive(response, part, *_span(response, url, part, have, size))
    except (httpx.InvalidURL, httpx.UnsupportedProtocol, httpx.TooManyRedirects) as error:
        raise InputError(f"{url}: {_reason(error)}; expected the file; check --base_url") from error
    except httpx.TransportError as error:
        raise _Broken(f"no connection ({_reason(error)})") from error


def _check_answer(response: httpx.Response, url: str, part: Path) -> None:
    """Raises `_Broken` or `InputError` if the answer is not (the rest of) a file."""
    said = f"the server answers {response.status_code} {response.reason_phrase}"
    if response.status_code == 416:  # the part is longer than the file, so it belongs to another version
        _discard(part)
        raise _Broken("the file has changed since the download began")
    if response.status_code in _TRANSIENT:
        raise _Broken(said)
    if not response.is_success:
        raise InputError(
            f"{url}: {said}; expected the file; check --base_url, or download the file by hand into --raw_dir"
        )
    if response.headers.get("Content-Type", "").partition(";")[0].strip().lower() == "text/html":
        raise InputError(
            f"{url}: is a web page; expected the file; check --base_url, or download the file by hand into --raw_dir"
        )


def _span(response: httpx.Response, url: str, part: Path, have: int, size: int | None) -> tuple[int, int]:
    """(Where the answer starts in the file, the file's length); afterwards `part` and its note belong to this file."""
    start, length = 0, response.headers.get("Content-Length", "")
    if response.status_code == 206:
        span = response.headers.get("Content-Range", "").removeprefix("bytes ").partition("/")[0]
        if span.partition("-")[0] != str(have):
            _discard(part)
            raise _Broken("the server continues at another position")
        start = have
    if not length.isdigit():
        if size is None:
            raise InputError(
                f"{url}: the server does not state the file's length, so a cut file would look complete; "
                "download the file by hand into --raw_dir"
            )
        length = str(size - start)
    whole = start + int(length)
    if size is not None and whole != size:  # refused before its bytes are received
        _discard(part)
        raise InputError(
            f"{url}: has {whole} bytes, expected {size}; the server has another version of the file; check --base_url"
        )
    version = response.headers.get("ETag", "")
    version = response.headers.get("Last-Modified", "") if not version or version.startswith("W/") else version
    if not start:  # before the note is written: bytes of one version are never continued with another
        part.unlink(missing_ok=True)
    _note(part).write_text(json.dumps({"url": url, "version": version, "size": whole}))
    return start, whole


def _receive(response: httpx.Response, part: Path, start: int, whole: int) -> None:
    """Writes the answer to `part`, at its end if the server continues, else from the start."""
    import httpx

    with (
        part.open("ab" if start else "wb") as file,
        tqdm(total=whole, initial=start, desc=part.stem, unit="B", unit_scale=True, disable=None) as bar,
        contextlib.suppress(httpx.TransportError),  # the bytes that came are kept; their number is checked below
    ):
        for block in response.iter_raw():  # of no fixed size: that would lose the last bytes before a break
            bar.update(file.write(block[: whole - file.tell()]))
            if file.tell() == whole:
                break
    if _size(part) < whole:
        raise _Broken(f"the connection broke off after {_size(part)} of {whole} bytes")


def _reason(error: Exception) -> str:
    """The text of an error, on one short line."""
    return repr(str(error))[1:-1][:80] or type(error).__name__


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _note(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _noted(part: Path, url: str) -> dict[str, Any]:
    """{version, size} of the file that `part` is a part of, as the server stated them; "" and 0 if unknown."""
    try:
        note = json.loads(_note(part).read_text())
        return note if note["url"] == url and {"version", "size"} <= note.keys() else {"version": "", "size": 0}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {"version": "", "size": 0}


def _discard(part: Path) -> None:
    part.unlink(missing_ok=True)
    _note(part).unlink(missing_ok=True)
