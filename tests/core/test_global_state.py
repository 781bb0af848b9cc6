"""The library leaves what belongs to the whole process alone; the commands touch it, and in few places."""

import commands
import pytest

# Handlers and hooks, ends without an end, redirected descriptors, and what Windows has not.
OF_THE_PROCESS = [
    "signal.signal",
    "import signal\n",
    "setitimer",
    "SIGALRM",
    "unraisablehook",
    "os._exit",
    "os.dup2",
    "fcntl",
    "addFilter",
    "removeFilter",
]
COMMANDS = {"signals.py", "quiet.py", "cli.py"}


def mentions(package, word):
    """The modules of a package in whose source the word stands."""
    return {path.name for path in (commands.PROJECT / package).rglob("*.py") if word in path.read_text()}


@pytest.mark.parametrize("word", OF_THE_PROCESS)
def test_no_module_of_the_library_mentions(word):
    assert mentions("llmesr_jax", "import")
    assert not mentions("llmesr_jax", word)


@pytest.mark.parametrize("word", OF_THE_PROCESS)
def test_in_the_commands_it_is_in_the_modules_for_it(word):
    assert mentions("launch", word) <= COMMANDS


def test_the_commands_redirect_nothing_and_lock_nothing():
    assert not mentions("launch", "os.dup2") and not mentions("launch", "fcntl")
