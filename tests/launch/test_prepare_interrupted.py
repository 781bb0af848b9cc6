"""`python -m launch.prepare` killed, interrupted, on a full disk, twice at once: nothing half, and the same result."""

import contextlib
import shutil
import signal
import subprocess
import time

import filelock
import prepared
import pytest
import raw_samples

from launch.signals import Signals

FLAGS = ["--dataset=shop", "--raw_dir=raw", "--core=none"]


def big(folder, users=40_000):
    """Some 200,000 lines, so that there is time to interrupt."""
    folder.mkdir()
    lines = (f"{u},{(u * 7 + n * n) % 5000},{n}" for u in range(users) for n in range(5))
    raw_samples.gzipped(folder / "log.csv.gz", ["user_id,item_id,at", *lines])
    return [*FLAGS, "--importer=table", "--time_column=at"]


@pytest.mark.slow
@pytest.mark.parametrize("most_in_memory", [1_000_000, 1000])
def test_killed_and_interrupted_runs_leave_nothing_half_and_the_same_command_ends_the_same(
    start_prepare, prepare, tmp_path, most_in_memory
):
    flags = [*big(tmp_path / "raw"), f"--most_in_memory={most_in_memory}"]
    prepared.run(tmp_path / "raw", tmp_path / "undisturbed", flags[-3:])
    out, at_work = tmp_path / "data" / "shop", tmp_path / "data" / ".shop.partial"

    def signalled(sign, wait):
        left_by_a_kill = at_work.stat().st_ctime_ns if at_work.exists() else None
        process = start_prepare(*flags, cwd=tmp_path)
        end = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < end:
            with contextlib.suppress(FileNotFoundError):
                if at_work.stat().st_ctime_ns != left_by_a_kill:
                    break
            time.sleep(0.005)
        time.sleep(wait)
        process.send_signal(sign)
        _, err = process.communicate(timeout=60)
        return process.returncode, err

    status, _ = signalled(signal.SIGKILL, 0.1)
    assert status == -signal.SIGKILL and not out.exists()
    for _ in range(3):
        status, err = signalled(signal.SIGINT, 0.05)
        if status:
            break
        shutil.rmtree(out)  # it was done before its signal came
    assert (status, err) == (130, "interrupted\n")
    assert list((tmp_path / "data").iterdir()) == []  # what the kill before had left is gone, too
    assert prepare(*flags, cwd=tmp_path).status == 0
    assert prepared.contents(tmp_path / "data" / "shop") == prepared.contents(tmp_path / "undisturbed")
    assert [p.name for p in (tmp_path / "data").iterdir()] == ["shop"]


def test_an_interrupt_while_the_folder_is_put_in_place(tmp_path, monkeypatch, capfd):
    flags = raw_samples.write("csv", tmp_path / "raw")
    rename = type(tmp_path).rename

    def interrupted(path, target):
        signal.raise_signal(signal.SIGINT)
        return rename(path, target)

    monkeypatch.setattr(type(tmp_path), "rename", interrupted)
    with pytest.raises(KeyboardInterrupt), Signals() as signals:
        prepared.run(tmp_path / "raw", tmp_path / "out", flags, stop=signals.stop)
    assert (
        not signals.raised
        and "\nmoving the folder into place; a second signal stops at once\n" in capfd.readouterr().out
    )
    monkeypatch.undo()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "raw"]
    assert not prepared.run(tmp_path / "raw", tmp_path / "out", flags).fresh


@pytest.mark.slow
def test_a_full_disk(prepare, tmp_path):
    flags = big(tmp_path / "raw", users=60_000)
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(disk)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small disk needs privileges")
    try:
        result = prepare(*flags, f"--out={disk / 'shop'}", cwd=tmp_path)
        left = list(disk.iterdir())
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)
    assert result.status == 2 and left == []
    assert result.err.startswith(f"error: {disk}") and "No space left on device" in result.err
    assert result.err.count("\n") == 1


def test_two_at_once(tmp_path):
    flags = raw_samples.write("csv", tmp_path / "raw")
    with filelock.FileLock(tmp_path / ".out.lock"):
        message = prepared.refused(tmp_path / "raw", tmp_path / "out", flags)
        assert message == f"{tmp_path / 'out'}: another command is writing this folder; wait until it ends"
    assert prepared.run(tmp_path / "raw", tmp_path / "out", flags).fresh
