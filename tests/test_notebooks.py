"""The notebooks run from top to bottom, in an empty folder."""

import importlib.util
import re
import shutil

import commands
import pytest

NOTEBOOKS = sorted((commands.PROJECT / "docs" / "notebooks").glob("*.ipynb"))
MISSING = [name for name in ("nbclient", "ipykernel") if importlib.util.find_spec(name) is None]


def test_there_are_five():
    assert len(NOTEBOOKS) == 5


@pytest.mark.slow
@pytest.mark.skipif(bool(MISSING), reason="needs the extra docs")
@pytest.mark.skipif(shutil.which("llmesr") is None, reason="needs the installed command llmesr")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs(path, tmp_path):
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert cells and all(cell.execution_count for cell in cells)
    outputs = [out for cell in cells for out in cell.outputs]
    assert not [out for out in outputs if out.output_type == "error"]
    said = "".join(out.text for out in outputs if out.output_type == "stream")
    assert not re.findall(r"^.*\berror: .*$", said, re.MULTILINE)  # of a command after "!", whose status is ignored
