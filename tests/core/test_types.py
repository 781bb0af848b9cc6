"""pyright has nothing to say of the public face, of what uses it alone, and of the contracts that plug-ins meet."""

import importlib.util
import json
import re
import subprocess
import sys

import commands
import pytest

from llmesr_jax.training.kinds import kinds

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("pyright") is None, reason="pyright is not installed"),
]


def pyright(folder, *args):
    """Its errors, as it is called in a folder."""
    command = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable, *args]
    found = json.loads(subprocess.run(command, cwd=folder, capture_output=True, text=True).stdout)
    assert found["summary"]["filesAnalyzed"] > 0
    return [
        f"{one['file']}:{one['range']['start']['line'] + 1}: {one['message']}" for one in found["generalDiagnostics"]
    ]


def test_the_public_face_is_clean():
    """Over the files that pyrightconfig.json names."""
    assert pyright(commands.PROJECT) == []


def test_a_fork_is_clean(tmp_path):
    """The package and the blocks of docs/forking.md, README's Python, an own config; every file of the library as what
    it is a plug-in of."""
    for page in ("README.md", "docs/forking.md"):
        text = (commands.PROJECT / page).read_text()
        for name, block in re.findall(r"^(?:`([\w./]+)`:\n\n)?```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
            path = tmp_path / (name or f"block_{len(list(tmp_path.iterdir()))}.py")
            path.parent.mkdir(exist_ok=True)
            path.write_text(block)
    (tmp_path / "my_config.py").write_text((commands.PROJECT / "configs" / "forkme.py").read_text())
    lines = []
    for plugins in kinds().values():
        for name in plugins.names():
            module = plugins.load(name)
            contract = plugins.forms[getattr(module, plugins.form)] if plugins.form else plugins.contract
            lines.append(f"import {module.__name__}\nimport {contract.__module__}")
            lines.append(f"_{len(lines)}: {contract.__module__}.{contract.__name__} = {module.__name__}")
    (tmp_path / "contracts.py").write_text("\n".join(lines) + "\n")
    config = {"include": ["."], "extraPaths": [str(commands.PROJECT)], "typeCheckingMode": "basic"}
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(config))
    assert pyright(tmp_path) == []
