"""`launch.train --publish` and `launch.leaderboard`: one file a run, without a path, and the page made of them."""

import json

import commands

from llmesr_jax.experiments import leaderboard


def test_published_runs_and_their_page(trained, environment, tmp_path):
    cwd, result = trained
    entries = leaderboard.read(cwd / "leaderboard")
    assert len(entries) == 2 and all(f"published as leaderboard/{name}" in result.out for name in entries)
    for name, one in entries.items():
        run = cwd / "w" / one["method"]
        results = json.loads((run / "results.json").read_text())
        assert name.startswith(f"tiny-gru4rec-{one['method']}-") and one["seeds"] == [1, 2] and one["epochs"] == 2
        assert one["data"] == json.loads((run / "config.json").read_text())["data"]
        assert one["settings"]["train.epochs"] == 2 and "none.width=8" in one["changes"] or one["method"] != "none"
        found = one["test"]["full"]["overall"]["N@10"]
        assert [round(x, 6) for x in results["test"]["full"]["overall"]["N@10"]] == found
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        assert abs(one["seconds"] - lines[0]["seconds"] - lines[-1]["seconds"]) < 1e-3
        text = (cwd / "leaderboard" / name).read_text()
        assert str(cwd) not in text and "data_dir" not in text and "seeds=" not in "".join(one["changes"])
    command = ("-m", "launch.leaderboard", f"--folder={cwd / 'leaderboard'}", "--out=page.md")
    made = commands.run(*command, cwd=tmp_path, env=environment)
    assert (made.status, made.out) == (0, "page.md: 2 runs\n"), made.err
    assert (tmp_path / "page.md").read_text() == leaderboard.page(entries)
