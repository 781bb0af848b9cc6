"""The command line's frame: every case is a process of its own, forked from one that has the imports behind it."""

import json
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from llmesr_jax.training import config, schema

PROJECT = Path(__file__).resolve().parents[2]

# A command as in launch/: prints the configurations it was asked for, or fails as WORKDIR says.
SERVER = '''
"""A command that prints its configurations."""
import errno, json, os, sys

from launch import cli
from llmesr_jax.training import config, schema
from llmesr_jax.core.errors import InputError

FAILURES = {
    "refused": InputError("inter.txt, line 3: found 'x', expected two numbers"),
    "interrupted": KeyboardInterrupt(),
    "full": OSError(errno.ENOSPC, "No space left on device", "some/file"),
    "nameless": OSError(errno.EROFS, "Read-only file system"),
    "tensorstore": ValueError('Failed writing: "/disk/d/1": No space left on device [os_error_code=' + "'28']"),
    "bug": ValueError("a bug"),
}

def main(argv, stop):
    found = cli.configs_from_flags()
    if found[0].workdir in FAILURES:
        raise FAILURES[found[0].workdir]
    print(json.dumps([config.flatten(one) for one in found]))

schema.sections()
for line in sys.stdin:
    case = json.loads(line)
    pid = os.fork()
    if pid == 0:
        os.chdir(case["cwd"])
        for stream, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(case[name], os.O_WRONLY | os.O_CREAT), stream)
        sys.argv = ["command", *case["args"]]
        cli.define_flags()
        try:
            cli.run(main)
        except SystemExit as done:  # leaves without the slow tear-down of what it shares with its parent
            sys.stdout.flush()
            os._exit(done.code or 0)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
'''


class Result(NamedTuple):
    status: int
    out: str
    err: str


@pytest.fixture(scope="module")
def server():
    command = [sys.executable, "-W", "ignore", "-c", SERVER]
    with subprocess.Popen(command, cwd=PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.stdin.close()


@pytest.fixture
def run(server, tmp_path):
    """run(*args) -> Result, in an empty folder."""
    cwd = tmp_path / "cwd"
    cwd.mkdir()

    def run(*args):
        case = {"args": args, "cwd": str(cwd), "out": str(tmp_path / "out"), "err": str(tmp_path / "err")}
        server.stdin.write(json.dumps(case) + "\n")
        server.stdin.flush()
        status = int(server.stdout.readline())
        assert not list(cwd.glob("runs")), "nothing may be written"
        return Result(status, (tmp_path / "out").read_text(), (tmp_path / "err").read_text())

    return run


def configs(result):
    assert result.status == 0, result.err
    return json.loads(result.out)


def test_short_flags_beat_overrides_beat_files(run):
    (one,) = configs(run("--epochs=3", "--config.train.epochs=4", "--config.data.batch_size=7", "--max_len", "9"))
    assert (one["train.epochs"], one["data.batch_size"], one["data.max_len"]) == (3, 7, 9)


def test_every_setting_can_be_given_as_a_flag(run):
    """Whatever it is called: `config.cities.items` was a method of configurations."""
    chosen = {"dataset", "method", "backbone", "preset", "workdir"}
    given = {key: value for key, value in config.flatten(config.default()).items() if key not in chosen}
    (found,) = configs(run(*(f"--config.{key}={value}" for key, value in given.items())))
    assert {key: found[key] for key in given} == given


def test_default_folder_and_one_configuration_for_each_method(run):
    found = configs(run("--method=none,llmesr", "--preset=release", "--seeds=1,2"))
    assert [one["method"] for one in found] == ["none", "llmesr"]
    assert [one["workdir"] for one in found] == ["runs/demo/sasrec-release/none", "runs/demo/sasrec-release/llmesr"]
    assert {one["seeds"] for one in found} == {"1,2"}


def test_a_preset_chooses_the_method_where_none_is_named(run):
    (one,) = configs(run("--preset=best"))
    assert (one["method"], one["workdir"]) == ("faerec", "runs/demo/sasrec-best/faerec")
    found = configs(run("--preset=best", "--method=none,llmesr"))
    assert [(one["method"], one["loss.ranking"]) for one in found] == [
        ("none", "sampled_softmax"),
        ("llmesr", "sampled_softmax"),
    ]


def test_own_folder(run):
    assert [one["workdir"] for one in configs(run("--method=none", "--workdir=w"))] == ["w"]


def test_own_folder_of_several_methods(run):
    assert [one["workdir"] for one in configs(run("--method=none,llmesr", "--workdir=w"))] == ["w/none", "w/llmesr"]


def test_own_config_file(run, tmp_path):
    path = tmp_path / "mine.py"
    path.write_text((PROJECT / "configs" / "forkme.py").read_text())
    (one,) = configs(run(f"--config={path}", "--config.gru4rec.layers=2", "--max_len=11"))
    assert (one["backbone"], one["gru4rec.layers"], one["data.max_len"]) == ("gru4rec", 2, 11)


@pytest.mark.parametrize(
    ("start", "told"),
    [
        ("import nothing_there\n", "ModuleNotFoundError: No module named 'nothing_there'"),
        ("x = = 1\n", "SyntaxError: invalid syntax"),
        ("print(y)\n", "NameError: name 'y' is not defined"),
    ],
)
def test_an_own_file_that_cannot_be_read(run, tmp_path, start, told):
    path = tmp_path / "mine.py"
    path.write_text(f"{start}\ndef get_config():\n    return None\n")
    result = run(f"--config={path}")
    assert (result.status, result.err) == (2, f"error: --config={path}: {told}\n")


def test_an_own_file_may_set_what_is_the_default(run, tmp_path):
    """A patience of 20 where FAERec's setting has 10, and the method llmesr where the preset would choose faerec."""
    path = tmp_path / "mine.py"
    start = "import llmesr_jax\n\ndef get_config():\n    config = llmesr_jax.default_settings()\n"
    text = start + "    {}\n    return config\n"
    path.write_text(text.format("config.train.patience = 20"))
    (one,) = configs(run(f"--config={path}", "--dataset=grocery", "--method=faerec"))
    assert (one["train.patience"], one["train.epochs"]) == (20, 500)
    path.write_text(text.format('config.method = "llmesr"'))
    (one,) = configs(run(f"--config={path}", "--preset=best"))
    assert one["method"] == "llmesr"


def test_flagfile(run, tmp_path):
    path = tmp_path / "flags"
    path.write_text("--epochs=5\n--config.data.batch_size=6\n")
    (one,) = configs(run(f"--flagfile={path}"))
    assert (one["train.epochs"], one["data.batch_size"]) == (5, 6)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--epoch=3"], "error: --epoch: there is no such flag; did you mean --epochs?"),
        (["--epochs=many"], "--epochs=many"),
        (["--epochs=many"], "error: --epochs=many: is not valid; expected a whole number\n"),
        (["--epochs", "many"], "error: --epochs=many: is not valid; expected a whole number\n"),
        (["--max_len=9", "--epochs=1.5", "--lr=fast"], "error: --epochs=1.5: is not valid; expected a whole number\n"),
        (["--lr=fast"], "error: --lr=fast: is not valid; expected a number\n"),
        (["--lr=-1"], "learning_rate=-1"),
        (
            ["--config.train.learning_rate=fast"],
            "error: --config.train.learning_rate=fast: is not valid; expected a number\n",
        ),
        (["--epochs=0"], "--epochs=0: 0 is not a positive integer"),
        (["--epochs"], "epochs"),
        (["--preset=papre"], "preset 'papre' is not known; expected one of: paper, release"),
        (["--dataset=bueaty"], "data set 'bueaty' is not known; expected one of: beauty, beauty5, demo"),
        (["--method=none,lmesr"], "method 'lmesr' is not known; expected one of:"),
        (["--method=none,none"], "a method appears twice"),
        (["--method="], "method '' is not known"),
        (["--backbone=sasrek"], "backbone 'sasrek' is not known; expected one of: bert4rec"),
        (["--seeds=a"], "seeds 'a': are not valid; expected integers"),
        (["--config.train.epohcs=3"], "--config.train.epohcs is not a setting; did you mean --config.train.epochs"),
        (["--config.epochs", "3"], "did you mean --config.train.epochs"),
        (["--config.train=3"], "--config.train is not a setting; did you mean --config.train."),
        (["--config.train.epochs=many"], "error: --config.train.epochs=many: is not valid; expected a whole number\n"),
        (["--config.llmesr.share=maybe"], "--config.llmesr.share=maybe: is not valid; expected True or False"),
        (["--config.train.epochs"], "train.epochs"),
        (["--config=absent.py"], "--config=absent.py: the file does not exist; copy"),
        (["--config"], "--config=: the file does not exist; copy"),
        ([f"--config={PROJECT / 'configs' / 'paper.py'}"], "paper.py: the file has no get_config()"),
        (["--flagfile=absent"], "absent"),
        (["demo"], "argument 'demo' is not understood"),
        (["--workdir=refused"], "error: inter.txt, line 3: found 'x', expected two numbers\n"),
        (["--workdir=full"], "error: some/file: No space left on device; check its space"),
        (["--workdir=nameless"], "error: nameless: Read-only file system; "),
        (["--workdir=tensorstore"], "error: /disk/d/1: No space left on device; "),
    ],
)
def test_a_mistake_is_one_line_and_status_2(run, args, message):
    result = run(*args)
    assert message in result.err
    assert result.err.startswith("error: ") and result.err.count("\n") == 1
    assert (result.status, result.out) == (2, "")


def test_a_broken_own_config_file_is_one_line(run, tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("def get_config():\n    raise ValueError('width must be even')\n")
    result = run(f"--config={path}")
    assert (result.status, result.err) == (2, f"error: --config={path}: ValueError: width must be even\n")
    path.write_text("def get_config():\n    try:\n        {}['width']\n    except KeyError:\n        return 1 + ''\n")
    result = run("--epochs=3", f"--config={path}")
    wanted = f"error: --config={path}: TypeError: unsupported operand type(s) for +: 'int' and 'str'\n"
    assert (result.status, result.err) == (2, wanted)


def test_interrupted(run):
    assert run("--workdir=interrupted") == Result(130, "", "interrupted\n")


def test_a_bug_keeps_its_traceback(run):
    result = run("--workdir=bug")
    assert result.status == 1 and "Traceback" in result.err and "a bug" in result.err


def test_helpfull_explains_every_setting(run):
    result = run("--helpfull")
    assert result.status == 0
    text = " ".join(result.out.split()).replace("- ", "-")  # lines are wrapped, at hyphens too
    for key, setting in schema.settings().items():
        choices = f"; one of: {', '.join(map(str, setting.allowed))}" if setting.allowed else ""
        entry = f"--config.{key} {setting.doc}{choices} (default: {setting.default!r})"
        assert " ".join(entry.split()).replace("- ", "-") in text


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_shows_the_short_flags_and_no_more(run, flag):
    result = run(flag)
    assert result.status == 0
    lines = result.out.splitlines()
    names = [line.split()[0].rstrip(",") for line in lines if line.startswith("  --")]
    short = (
        "dataset data_dir method backbone preset seeds start workdir loggers epochs max_len batch_size learning_rate "
        "mesh"
    )
    assert names == [f"--{name}" for name in short.split()]
    assert "  --seeds, --seed " in result.out and "  --learning_rate, --lr" in result.out
    text = " ".join(result.out.split())
    assert "one of: bert4rec, bsarec, fmlprec, gmlp, gru4rec," in text and "users per step" in text
    assert max(map(len, lines)) <= 80


def test_help_of_a_section(run):
    result = run("--help=sasrec")
    assert result.status == 0
    assert result.out.startswith("SASRec: causal self-attention (Kang and McAuley, ICDM 2018)")
    keys = [line.split()[0] for line in result.out.splitlines() if line.startswith("  --")]
    assert keys == [f"--config.{key}" for key in schema.settings() if key.startswith("sasrec.")]
    wanted = f"error: --help=sas: there is no such section; expected one of: {', '.join(filter(None, schema.sections()))}; did you mean sasrec?\n"
    refused = run("--help=sas")
    assert (refused.status, refused.err) == (2, wanted)


def test_second_names_of_flags(run):
    (one,) = json.loads(run("--seed=7", "--lr=0.01").out)
    assert (one["seeds"], one["train.learning_rate"]) == ("7", 0.01)


def test_a_command_works_from_another_folder(tmp_path):
    script = tmp_path / "command.py"
    script.write_text(
        f"import sys\nsys.path.insert(0, {str(PROJECT)!r})\nfrom launch import cli\n"
        "cli.define_flags()\ncli.run(lambda argv, stop: print(cli.configs_from_flags()[0].train.epochs))\n"
    )
    command = [sys.executable, str(script), "--epochs=3"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout, result.stderr) == (0, "3\n", "")
