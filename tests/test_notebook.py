"""The notebook tells the truth: it runs from top to bottom, and says what the pipeline says."""

import ast
import json
import re
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from tests.conftest import ROOT

NOTEBOOK = ROOT / "notebooks" / "01_from_bill_to_saving.ipynb"
CELL_SECONDS = 500
PICTURES = 7


@pytest.fixture(scope="module")
def notebook() -> Any:
    return nbformat.read(NOTEBOOK, as_version=4)


@pytest.fixture
def own_jupyter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep Jupyter's files and its kernel, this very Python, in the test's own folder."""
    for name in ("JUPYTER_DATA_DIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    kernel = tmp_path / "jupyter_data_dir" / "kernels" / "this-python"
    kernel.mkdir(parents=True)
    arguments = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    kernel.joinpath("kernel.json").write_text(
        json.dumps({"argv": arguments, "display_name": "This Python", "language": "python"})
    )


def test_outputs_are_stripped(notebook: Any) -> None:
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.outputs == [] and cell.execution_count is None for cell in cells)


def test_no_function_is_defined(notebook: Any) -> None:
    code = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
    assert [node for node in ast.walk(ast.parse(code)) if isinstance(node, kinds)] == []


@pytest.mark.usefixtures("own_jupyter")
def test_it_runs_draws_and_ends_with_a_measured_saving(notebook: Any) -> None:
    NotebookClient(
        notebook,
        timeout=CELL_SECONDS,
        kernel_name="this-python",
        resources={"metadata": {"path": str(ROOT)}},
    ).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    said = "".join(output.get("text", "") for output in outputs)
    drawn = sum("application/vnd.plotly.v1+json" in output.get("data", {}) for output in outputs)
    assert drawn == PICTURES
    assert re.search(r"^Measured  [\d,.]+ USD \([\d,.]+ to [\d,.]+\) a month$", said, re.MULTILINE)
