"""Fixtures: a data folder and a cache for the whole session, and the commands run in a folder of the test's own."""

import commands
import pytest


@pytest.fixture(scope="session")
def environment(tmp_path_factory):
    return commands.session_environment(tmp_path_factory)


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    return commands.write_data(tmp_path_factory.mktemp("data") / "tiny")


@pytest.fixture(scope="session")
def start_train(environment, data):
    """start_train(*args, cwd=...) -> Popen of launch.train on the small data; `program` may stand for the command."""

    def start(*args, cwd, program=("-m", "launch.train")):
        return commands.start(*program, *commands.SMALL, f"--data_dir={data}", *args, cwd=cwd, env=environment)

    return start


@pytest.fixture(scope="session")
def train(environment, data):
    """train(*args, cwd=...) -> Result of launch.train on the small data; `program` may stand for the command."""

    def run(*args, cwd, program=("-m", "launch.train")):
        return commands.run(*program, *commands.SMALL, f"--data_dir={data}", *args, cwd=cwd, env=environment)

    return run


@pytest.fixture(scope="session")
def evaluate(environment):
    """evaluate(*args, cwd=...) -> Result of launch.evaluate."""
    return lambda *args, cwd: commands.run("-m", "launch.evaluate", *args, cwd=cwd, env=environment)


@pytest.fixture(scope="session")
def trained(train, tmp_path_factory):
    """(folder, Result) of two methods trained with two seeds into w/none and w/llmesr; read only."""
    cwd = tmp_path_factory.mktemp("trained")
    result = train("--method=none,llmesr", "--seeds=1,2", "--epochs=2", "--workdir=w", "--publish", cwd=cwd)
    assert result.status == 0, result.err
    return cwd, result


@pytest.fixture(scope="session")
def report(environment):
    """report(*args, cwd=...) -> Result of launch.report."""
    return lambda *args, cwd: commands.run("-m", "launch.report", *args, cwd=cwd, env=environment)


@pytest.fixture(scope="session")
def start_prepare(environment):
    return lambda *args, cwd: commands.start("-m", "launch.prepare", *args, cwd=cwd, env=environment)


@pytest.fixture(scope="session")
def prepare(environment):
    """prepare(*args, cwd=...) -> Result."""
    return lambda *args, cwd: commands.run("-m", "launch.prepare", *args, cwd=cwd, env=environment)
