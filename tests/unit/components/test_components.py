"""Components are thin, run in the one image and log what their artifact's lineage says."""

import ast
import json
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import pytest

from components.images import MAIN_IMAGE
from components.support import log_lineage
from contracts.artifacts import new_artifact

ROOT = Path(__file__).parents[3] / "components"
NAMES = sorted(path.parent.name for path in ROOT.glob("*/component.py"))
MAX_STATEMENTS = 8


@pytest.mark.parametrize("name", NAMES)
def test_a_component_is_thin_and_runs_in_the_one_image(name):
    component = getattr(import_module(f"components.{name}.component"), name)
    container = component.component_spec.implementation.container
    tree = ast.parse((ROOT / name / "component.py").read_text(encoding="utf-8"))
    body = next(node.body for node in tree.body if isinstance(node, ast.FunctionDef))
    statements = [node for node in body[1:] if not isinstance(node, ast.Import | ast.ImportFrom)]

    assert container.image == MAIN_IMAGE
    assert "pip install" not in " ".join(container.command)
    assert len(statements) <= MAX_STATEMENTS, "logic belongs into a room"
    assert (ROOT / name / "README.md").is_file()


def test_lineage_metrics_reach_kfp_and_a_file(tmp_path):
    with new_artifact(tmp_path / "made", kind="test", inputs={}) as artifact:
        artifact.metrics["rows"] = 3
        artifact.labels["space"] = "s1"
    logged = {}
    made = SimpleNamespace(path=str(tmp_path / "made"), metadata={})
    metrics = SimpleNamespace(path=str(tmp_path / "metrics"), log_metric=logged.__setitem__)

    log_lineage(made, metrics)

    assert logged == {"rows": 3.0}
    assert made.metadata["space"] == "s1"
    # Without a file of its own a metrics artifact would never be found in the local cache.
    assert json.loads((tmp_path / "metrics").read_text()) == {"rows": 3.0}
