"""What all commands share: flags, the configurations made from them, and one line for a user's mistake.

    def main(argv, stop):
        for config in cli.configs_from_flags():
            ...

    if __name__ == "__main__":
        cli.define_flags()
        cli.run(main)

Exit status: 0 done, 2 a mistake in the input or a seed that failed (`error: ...` on stderr), 130 interrupted.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import logging as std_logging
import os
import platform
import re
import stat
import sys
import traceback
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from absl import app, flags, logging
from ml_collections import config_flags

from llmesr_jax.core.config_dict import ConfigDict
from llmesr_jax.core.errors import InputError
from llmesr_jax.core.interrupts import Stop
from llmesr_jax.core.nearest import nearest
from llmesr_jax.models import backbones, methods
from llmesr_jax.training import config, schema, stages

from . import command_help, quick, quiet, setting_flags, signals

flags.disclaim_key_flags()  # so that `--help` of a command lists these flags as its own
FLAGS = flags.FLAGS

MOST_COMPILED = 2 * 2**30  # bytes of compiled code that are kept
_DEFAULT_FILE = Path(config.configs().__path__[0], "default.py")
_OF_A_RUN = ("dataset", "data_dir", "method", "backbone", "preset", "seeds", "start", "workdir", "loggers")
_OF_SECTIONS = {
    "epochs": "train.epochs",
    "max_len": "data.max_len",
    "batch_size": "data.batch_size",
    "learning_rate": "train.learning_rate",
    "mesh": "train.mesh",
}
_SHORT = {**dict(zip(_OF_A_RUN, _OF_A_RUN)), **_OF_SECTIONS}
_WANTED = {"int": "a whole number", "float": "a number", "bool": "True or False"}  # by absl's types
ALIASES = {"seed": "seeds", "lr": "learning_rate"}
_DISK_ERRORS = {getattr(errno, name) for name in "ENOSPC EDQUOT EROFS EACCES EPERM EEXIST ENOTDIR".split()}


def define_flags() -> None:
    """Defines the short flags, with the names and help of their settings. Idempotent."""
    if "dataset" in FLAGS:
        return
    known = schema.of_a_run()

    def text(key: str) -> str:
        default = known[key].default
        of_section = f", or the data set's; short for --config.{key}" if "." in key else ""
        choices = {"method": methods.PLUGINS.names, "backbone": backbones.PLUGINS.names}
        listed = f"; one of: {', '.join(choices[key]())}" if key in choices else ""
        return known[key].doc + listed + (f" (default: {default}{of_section})" if default != "" else "")

    found = {name: known[key]._replace(doc=text(key)) for name, key in _SHORT.items()}
    setting_flags.define(found, optional=True)
    for alias, name in ALIASES.items():
        flags.DEFINE_alias(alias, name)


def run(main: Callable[[Sequence[str], Stop], Any], with_config: bool = True, words: bool = False) -> NoReturn:
    """Parses the command line, runs `main`, and exits; a user's mistake ends with one line on stderr and status 2.

    Args:
      main: gets the arguments, and a `Stop` that a signal requests; long-running work checks it.
      with_config: whether to define `--config` and `--config.a.b` if there is a flag `--dataset`, and to cache compiled
        code; False for a command that reads no setting of training and compiles nothing.
      words: whether arguments without `--` reach `main`, after the command's name; else they are a mistake.
    """
    try:
        argv = FLAGS.read_flags_from_files(sys.argv, force_gnu=False)
        if text := command_help.wanted(argv, main, with_config and "dataset" in FLAGS, ALIASES):
            print(text)
            sys.exit(0)
        quiet.hush()
        quick.imported()
        interruptible = signals.interruptible(main)
        if with_config and "dataset" in FLAGS:
            argv = _with_config(argv)
            help_string = f"file with get_config(); its settings:\n{config.describe()}"
            config_flags.DEFINE_config_file("config", None, help_string, sys_argv=argv)
        if with_config:
            keep_compiled_code()
        app.run(interruptible, argv=argv, flags_parser=functools.partial(_parse, words=words))
    except (InputError, flags.Error) as error:
        _stop(str(error), 2)
    except KeyboardInterrupt:
        _stop("interrupted", 130)
    except BrokenPipeError:  # as with `--help | head`; any other way of exiting writes to the pipe again
        os._exit(141)
    except Exception as error:
        message = _disk_message(error)
        if message is None:
            raise
        _stop(message, 2)
    _leave(0)


def keep_compiled_code() -> None:
    """Caches compiled code of XLA in the user's cache folder, so that the same command starts faster the next time.

    JAX_COMPILATION_CACHE_DIR sets another folder. Code compiled for one kind of CPU may not run on another, so each
    kind has its own folder. If the folder cannot be written, nothing is cached. Each command first deletes the least
    recently used code, until all kinds together have at most 2 GiB.
    """
    import jax

    if getattr(jax.config, "jax_compilation_cache_dir"):
        return
    try:
        cpu = re.search(r"^(flags|Features)\s*:.*$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        cpu = None
    kind = hashlib.sha256((cpu[0] if cpu else platform.processor()).encode()).hexdigest()[:12]
    folder = compiled_folder() / kind
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return
    _delete_unused(folder.parent, MOST_COMPILED)
    if os.access(folder, os.W_OK):
        jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.05)  # reading a program takes some 10 ms


def compiled_folder() -> Path:
    """The cache folder for compiled code, for all kinds of CPU; it may not exist."""
    home = os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()
    return Path(home, "llmesr_jax", "compiled")


def _delete_unused(folder: Path, most: int) -> None:
    """Deletes the least recently used files below a folder, until the others have at most `most` bytes."""
    found = []
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):  # another command may delete files at the same time
            status = path.lstat()
            if stat.S_ISREG(status.st_mode):
                found.append((max(status.st_atime, status.st_mtime), path, status.st_size))
    total = sum(size for *_, size in found)
    for _, path, size in sorted(found):
        if total <= most:
            return
        with contextlib.suppress(OSError):
            path.unlink()
        total -= size


def configs_from_flags() -> list[ConfigDict]:
    """The configurations of the command line: one for each method, with `workdir` filled in.

    It is `runs/<dataset>/<backbone>-<preset>/<method>` by default. A `--workdir` is used as it is for one method,
    and gets a subfolder for each of several.

    Raises:
      InputError: see `config.build`; a method that is named twice; `--start=@none` without `none` among the methods.
    """
    base, overrides, given, varying = _layers()
    names = [name.strip() for name in given.get("method", base.method).split(",")]
    if len(set(names)) < len(names):
        raise InputError(f"--method={','.join(names)}: a method appears twice; expected each method once")
    named = "method" in given or "method" in config.changes(base)  # else the preset may choose one
    found = [
        config.build(overrides, {**given, "method": name} if named else given, base, varying=varying) for name in names
    ]
    for one in found:
        if not one.workdir:
            one.workdir = str(Path("runs", one.dataset, f"{one.backbone}-{one.preset}", one.method))
        elif len(found) > 1:
            one.workdir = str(Path(one.workdir, one.method))
    return stages.among(found)


def config_from_flags(
    varied: Mapping[str, Any],
    name: str,
    defaults: Mapping[str, Any] | None = None,
    varying: Mapping[tuple[str, ...], Mapping[str, Any]] | None = None,
    spread: Collection[str] = (),
) -> ConfigDict:
    """The configuration of one cell of a sweep; its `workdir` is that of the whole sweep.

    Args:
      varied: {key: value} that the sweep sets; the command line must not set them.
      name: of the sweep, for the default `workdir`.
      defaults: {key: value} that the command line overrides.
      varying: such defaults by method and backbone, like `FOR` in a file of configs/; they override `defaults`.
      spread: settings whose flags have several values, of which `varied` has one for each cell.
    Raises:
      InputError: see `config.build`; or a setting is both set and varied.
    """
    base, overrides, given, own = _layers()
    given = {key: value for key, value in given.items() if key not in spread}
    if both := sorted(varied.keys() & {**overrides, **given}.keys()):
        raise InputError(f"--{both[0]}: is set on the command line and varied by the sweep; expected one of the two")
    one = config.build({**overrides, **varied}, given, base, defaults, (*own, varying or {}))
    one.workdir = one.workdir or str(Path("runs", *([] if spread else [one.dataset]), f"{name}-{one.preset}"))
    return one


def _layers() -> tuple[ConfigDict, dict[str, Any], dict[str, Any], list[Any]]:
    """The config that `--config` loaded, what `--config.a.b` sets, what the short flags set, and the file's `FOR`."""
    base, overrides = FLAGS.config, config_flags.get_override_values(FLAGS["config"])
    if not isinstance(base, ConfigDict):
        path = config_flags.get_config_filename(FLAGS["config"])
        raise InputError(
            f"--config={path}: get_config() returned a {type(base).__name__}; expected a ConfigDict, as "
            "llmesr_jax.default_settings() returns it; see configs/forkme.py"
        )
    given = {key: FLAGS[name].value for name, key in _SHORT.items() if FLAGS[name].value is not None}
    path = Path(config_flags.get_config_filename(FLAGS["config"]))
    has_more = re.search(r"^FOR\b", path.read_text(encoding="utf-8"), re.MULTILINE)
    return base, overrides, given, [config.module_of(path).FOR] if has_more else []


def _with_config(argv: Sequence[str]) -> list[str]:
    """`argv`, with `--config=<default file>` if it has no `--config`; checks that the file and the keys exist."""
    keys = [match[1] for arg in argv[1:] if (match := re.match(r"--?(?:no)?config\.([^=]*)", arg))]
    schema.check_keys(keys, "command line", prefix="--config.")
    files = [i for i, arg in enumerate(argv) if re.match(r"--?config(=|$)", arg)]
    for i in files:
        path = argv[i].partition("=")[2] or next(iter(argv[i + 1 :]), "")
        if not Path(path).is_file():
            raise InputError(f"--config={path}: the file does not exist; copy configs/forkme.py to begin")
        if not re.search(r"^def get_config\b", Path(path).read_text(encoding="utf-8"), re.MULTILINE):
            raise InputError(f"--config={path}: the file has no get_config(); copy configs/forkme.py to begin")
    return list(argv) if files else [argv[0], f"--config={_DEFAULT_FILE}", *argv[1:]]


def _parse(argv: Sequence[str], words: bool = False) -> list[str]:
    try:
        rest = FLAGS(argv)
    except flags.UnrecognizedFlagError as error:
        raise InputError(_unknown(error.flagname)) from error
    except flags.IllegalFlagValueError as error:
        raise InputError(_of_a_file(error, argv) or _of_a_value(argv) or str(error)) from error
    except (ImportError, SyntaxError, NameError) as error:  # in the user's config file, which is run to read it
        raise InputError(_in_file(error, argv)) from error
    except SystemExit as help_was_shown:
        sys.exit(0 if help_was_shown.code in (None, 0, 1) else help_was_shown.code)
    if rest[1:] and not words:
        raise InputError(f"argument {rest[1]!r} is not understood; expected flags as --name=value; see --help")
    if FLAGS["verbosity"].using_default_value:
        FLAGS.verbosity = logging.WARNING  # of all packages' loggers
        handler = logging.get_absl_handler()
        handler.setFormatter(_OneLine())
        handler.addFilter(quiet.unless_of_orbax)
    return rest


def _of_a_file(error: flags.Error, argv: Sequence[str]) -> str:
    """The message if get_config() of the user's config file raised the error; else "".

    Only the parser of `--config` raises its error while it handles another one, that of the file.
    """
    of_parser = error.__context__
    cause = of_parser and of_parser.__context__
    if cause is None:
        return ""
    return _in_file(cause, argv)


def _in_file(error: BaseException, argv: Sequence[str]) -> str:
    path = next(arg for arg in argv if re.match(r"--?config(=|$)", arg)).partition("=")[2] or "file"
    return f"--config={path}: {''.join(traceback.format_exception_only(error)).strip().splitlines()[-1]}"


def _of_a_value(argv: Sequence[str]) -> str:
    """The message if the first invalid value of a flag is not a number, or neither True nor False; else "".

    absl's error does not name the flag and value, so the parsers of the flags are called again. For other mistakes, the
    text of absl's error is good enough.
    """
    for arg, after in zip(argv[1:], [*argv[2:], ""]):
        match = re.fullmatch(r"--?([^=]+)(?:=(.*))?", arg, re.DOTALL)
        if match is None or match[1] not in FLAGS or (match[2] is None and FLAGS[match[1]].boolean):
            continue
        parser, value = FLAGS[match[1]].parser, after if match[2] is None else match[2]
        if wanted := _WANTED.get(parser.flag_type()):
            try:
                getattr(parser, "convert", parser.parse)(value)  # a number may still be out of bounds
            except (TypeError, ValueError, OverflowError):
                return f"--{match[1]}={value}: is not valid; expected {wanted}"
    return ""


def _unknown(name: str) -> str:
    """The message for a flag that the command does not have."""
    section = name.removeprefix("config.").partition(".")[0]
    if "." in name and "config" in FLAGS and section in schema.sections():
        return (
            f"--{name}: there is no such flag; expected a setting as --config.SECTION.NAME=VALUE; see --help={section}"
        )
    near = nearest(name, FLAGS, most=2)
    hint = f"did you mean {' or '.join(f'--{one}' for one in near)}?" if near else "see --help"
    return f"--{name}: there is no such flag; {hint}"


class _OneLine(std_logging.Formatter):
    """Formats a record as `warning: <message>`, in the way that `run` prints errors."""

    def format(self, record: std_logging.LogRecord) -> str:
        return f"{record.levelname.lower()}: {record.getMessage()}"


def _disk_message(error: BaseException | None) -> str | None:
    """The message for an error of the file system, raised by Python or by TensorStore; None for any other error.

    TensorStore raises a plain ValueError, in which only the text has the system's code, as in `[os_error_code='28']`.
    """
    while error is not None:
        code: int | None = None
        path: Any = None
        if isinstance(error, OSError):
            code, path = error.errno, error.filename
        elif found := re.search(r"os_error_code='(\d+)'", str(error)):
            code, path = int(found[1]), next(iter(re.findall(r'"(/[^"\\]*)"', str(error))), None)
        if code is not None and code in _DISK_ERRORS:
            path = path or ("workdir" in FLAGS and FLAGS["workdir"].value) or "workdir"
            return f"{path}: {os.strerror(code)}; check its space and permissions, or choose another folder"
        error = error.__cause__ or error.__context__
    return None


def _stop(message: str, status: int) -> NoReturn:
    sys.stdout.flush()
    print(f"error: {message}" if status == 2 else message, file=sys.stderr)
    _leave(status)


def _leave(status: int) -> NoReturn:
    """Exits; does not wait for a program that is compiled ahead."""
    kept = sys.modules.get("llmesr_jax.models.kept")
    if kept is not None and kept.is_compiling():
        sys.stdout.flush()
        sys.stderr.flush()
        signals.end_at_once(status)
    sys.exit(status)
