"""Serves recommendations of one or several bundles over HTTP, with a page to try them.

    python -m launch.serve --bundle=bundle
    python -m launch.serve --bundle=old=bundles/monday,new=bundles/tuesday --port=9000

The page is at /, the API's description at /docs. It listens on this machine only, unless --host says otherwise. SIGHUP
reloads bundles whose folders have changed, without dropping a request; SIGTERM and Ctrl-C answer open requests, then
stop the service.
If the environment variable LLMESR_TOKEN is set, every request must have that token. See docs/serving.md.
"""

import contextlib
import dataclasses
import gc
import logging
import os
import sys

from llmesr_jax.core import commands
from llmesr_jax.core.errors import InputError
from llmesr_jax.core.knobs import knob

from . import cli, setting_flags, signals

_LOCAL = ("127.0.0.1", "::1", "localhost")


@dataclasses.dataclass(frozen=True)
class Options:
    """The settings of the service."""

    bundle: tuple[str, ...] = knob(
        (), "folder of a bundle, or NAME=FOLDER; repeat the flag, or separate by commas, for several"
    )
    host: str = knob("127.0.0.1", "address to listen on; 0.0.0.0: all addresses of this machine")
    port: int = knob(8000, "port to listen on; 0: any free port", least=0, most=65535)
    hosts: tuple[str, ...] = knob(
        (),
        "allowed names in a request's Host header; empty: those of this machine, or any name if --host is another "
        "address",
    )
    rate: float = knob(0.0, "maximum requests per second of one client; 0: any number", least=0)
    queue: int = knob(1000, "maximum waiting requests; further ones get 503", least=1)
    deadline: float = knob(1.0, "seconds after which a request without an answer gets 503", least=0.001)
    patience: float = knob(10.0, "seconds in which a client must have sent its request", least=0.1)
    drain: float = knob(10.0, "seconds for the last answers when the service stops", least=0)
    connections: int = knob(1000, "maximum connections at a time", least=1)
    log: str = knob(
        "errors",
        "errors: only errors; requests: one line each, without content; histories: with content, which is personal "
        "data",
        choices=("errors", "requests", "histories"),
    )


def define_flags() -> None:
    setting_flags.define(Options, repeated=("bundle",))


def main(argv, stop):
    options = setting_flags.made(Options)
    try:
        import httptools  # noqa: F401
        import msgspec  # noqa: F401
        import prometheus_client  # noqa: F401
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        command = commands.line("serve")
        raise InputError(f"{command} needs the package {error.name}; run pip install 'llmesr-jax[serve]'") from error
    from llmesr_jax.serving.http import service

    reload = signals.hang_ups()
    same = ("host", "port", "rate", "queue", "deadline", "patience", "drain", "connections", "log")
    prepared = service.prepare(
        service.Settings(
            tuple(options.bundle),
            hosts=_hosts(options),
            token=_token(),
            **{name: getattr(options, name) for name in same},
        )
    )
    _for_short_answers()
    print(f"{prepared}; Ctrl-C stops it", flush=True)
    if options.host not in _LOCAL and not prepared.settings.token:
        print(
            f"warning: anyone who reaches {options.host} may send requests; set LLMESR_TOKEN to require a token",
            file=sys.stderr,
        )
    drained = False
    try:
        with stop.gracefully("answering open requests, then stopping"):
            prepared.run(stop, reload)
            drained = True
    except KeyboardInterrupt:
        if not drained:
            raise
    print("ended")


def _for_short_answers() -> None:
    """Changes settings of this process so that single requests do not wait."""
    sys.setswitchinterval(5e-4)  # seconds that a thread may keep another waiting; the default is 5 ms
    gc.collect()
    gc.freeze()  # what is loaded stays, and collecting it again would take tens of milliseconds
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)  # mistakes of clients are not logged
    with contextlib.suppress(ImportError, ValueError, OSError):  # Windows has no such module; a limit may be fixed
        import resource

        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _token() -> str:
    found = os.environ.get("LLMESR_TOKEN")
    if found is not None and not found.strip():
        raise InputError("LLMESR_TOKEN is empty; expected a token that requests must have, or no such variable")
    return (found or "").strip()


def _hosts(options: Options) -> frozenset[str]:
    if options.hosts:
        return frozenset(name.strip().lower() for name in options.hosts)
    return frozenset(_LOCAL) if options.host in _LOCAL else frozenset()


def run() -> None:
    """The command: reads the command line, and exits."""
    define_flags()
    cli.run(main)


if __name__ == "__main__":
    run()
