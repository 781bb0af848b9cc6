"""The help of flags that may be repeated."""

import commands
import pytest


@pytest.mark.parametrize("command", ["recommend", "serve"])
def test_help_of_a_repeated_flag_has_no_gaps(command, environment):
    result = commands.run("-m", f"launch.{command}", "--help", cwd=commands.PROJECT, env=environment)
    assert result.status == 0
    texts = [line.strip() for line in result.out.splitlines() if line.startswith(" " * 24)]
    assert "; repeat this option to specify a list of values" in " ".join(texts)
    assert not [text for text in texts if "  " in text]
