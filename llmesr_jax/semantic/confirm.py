"""Asks the user before money is spent."""

from __future__ import annotations

import sys

from llmesr_jax.core.errors import InputError


def ask() -> None:
    """Asks whether to spend the amount that was printed; raises InputError unless the answer is yes."""
    if not sys.stdin.isatty():
        raise InputError(
            "this costs money, and there is no terminal to ask on; add --yes to continue, or --dry_run to stop here"
        )
    try:
        answer = input("continue? [y/N] ")
    except EOFError:
        answer = ""
    if answer.strip().lower() not in ("y", "yes"):
        raise InputError("stopped at your request; nothing was sent")
