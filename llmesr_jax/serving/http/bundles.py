"""The served bundles by name, and their replacement while requests are answered."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from llmesr_jax.core.errors import InputError
from llmesr_jax.serving.http import ready
from llmesr_jax.serving.http.ready import Ready

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_LOG = logging.getLogger(__name__)


class UnknownBundle(Exception):
    """A request names a bundle that is not served."""


def named(given: Sequence[str]) -> dict[str, Path]:
    """{name: folder} from texts of the form `folder` or `name=folder`, separated by commas; a bundle's default name is
    that of its folder.

    Raises:
      InputError: no bundle is named, or a name is not valid or appears twice.
    """
    found: dict[str, Path] = {}
    for one in (part.strip() for text in given for part in text.split(",") if part.strip()):
        name, folder = one.split("=", 1) if "=" in one else (Path(one).absolute().name, one)
        if not _NAME.fullmatch(name) or not folder:
            raise InputError(
                f"--bundle={one}: {name!r} is not a valid name; expected NAME=FOLDER with letters, digits, '.', '-' "
                "and '_'"
            )
        if name in found:
            raise InputError(
                f"--bundle={one}: the name {name} appears twice; expected a different name for each bundle, as "
                "NAME=FOLDER"
            )
        found[name] = Path(folder)
    if not found:
        raise InputError("--bundle is missing; expected the folder of a bundle, made by launch.export")
    return found


class Bundles:
    """Bundles that are loaded and compiled. A request is answered by the bundle that was there when it began.

    Args:
      folders: {name: folder}; the first is the default. A folder may be a symbolic link.
    Raises:
      InputError: one cannot be loaded.
    """

    def __init__(self, folders: Mapping[str, Path]):
        self._folders, self._lock = dict(folders), threading.Lock()
        self._loaded = {name: ready.load(folder) for name, folder in folders.items()}
        self.failed = ""  # why the last reload failed; "" if it did not

    @classmethod
    def of(cls, loaded: Mapping[str, Ready]) -> Bundles:
        """Bundles that are already loaded, and are never reloaded."""
        found = cls({})
        found._loaded = dict(loaded)
        return found

    def all(self) -> dict[str, Ready]:
        """{name: bundle} of the bundles that are served now."""
        return self._loaded

    def get(self, name: str) -> tuple[str, Ready]:
        """The name and the bundle; the first bundle for "".

        Raises:
          UnknownBundle: none has this name.
        """
        loaded = self._loaded
        name = name or next(iter(loaded))
        if name not in loaded:
            raise UnknownBundle(f"bundle {ascii(name)[:80]} is not served; expected one of: {', '.join(loaded)}")
        return name, loaded[name]

    def reload(self) -> list[str]:
        """Loads changed folders and replaces their bundles: all of them or, if one cannot be loaded, none.

        Loading and compiling take a while; until then the previous bundles answer. Returns the names of replaced
        bundles.
        """
        with self._lock:
            try:
                changed = [
                    name
                    for name, folder in self._folders.items()
                    if ready.digest_of(folder.resolve()) != self._loaded[name].digest
                ]
                fresh = {name: ready.load(self._folders[name]) for name in changed}
            except Exception as error:
                self.failed = str(error)
                _LOG.error("the bundles were not replaced: %s", error)
                return []
            self.failed = ""
            self._loaded = {**self._loaded, **fresh}
            return changed

    def reload_in_background(self) -> threading.Thread:
        """`reload` in a separate thread."""
        thread = threading.Thread(target=self._reload_and_say, name="reload", daemon=True)
        thread.start()
        return thread

    def _reload_and_say(self) -> None:
        if changed := self.reload():
            print(f"replaced: {', '.join(changed)}", flush=True)
        elif not self.failed:
            print("no bundle has changed", flush=True)
