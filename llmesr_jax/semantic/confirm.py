"""The question before money is spent."""

from __future__ import annotations

import sys

from llmesr_jax.core.errors import InputError


def ask() -> None:
    """Asks whether to spend what was announced; raises InputError unless the answer is yes."""
    if not sys.stdin.isatty():
        raise InputError(
            "there is no terminal to ask whether to spend that; add --yes to continue, or --dry_run to stop here"
        )
    try:
        answer = input("continue? [y/N] ")
    except EOFError:
        answer = ""
    if answer.strip().lower() not in ("y", "yes"):
        raise InputError("stopped at your request; nothing was sent")
