"""Components are thin, run in the one image and log what their artifact's lineage says."""

import ast
import json
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import pytest

from components.images import MAIN_IMAGE
from components.step_support import log_lineage
from contracts.artifacts import create_artifact

ROOT = Path(__file__).parents[3] / "components"
NAMES = sorted(path.parent.name for path in ROOT.glob("*/component.py"))
MAX_STATEMENTS = 8


@pytest.mark.parametrize("name", NAMES)
def test_a_component_is_thin_and_runs_in_the_one_image(name):
    component = getattr(import_module(f"components.{name}.component"), name)
    container_spec = component.component_spec.implementation.container
    syntax_tree = ast.parse((ROOT / name / "component.py").read_text(encoding="utf-8"))
    function_body = next(node.body for node in syntax_tree.body if isinstance(node, ast.FunctionDef))
    statements = [node for node in function_body[1:] if not isinstance(node, ast.Import | ast.ImportFrom)]

    assert container_spec.image == MAIN_IMAGE
    assert "pip install" not in " ".join(container_spec.command)
    assert len(statements) <= MAX_STATEMENTS, "logic belongs into a room"
    assert (ROOT / name / "README.md").is_file()


def test_lineage_metrics_reach_kfp_and_a_file(tmp_path):
    with create_artifact(tmp_path / "made", kind="test", inputs={}) as artifact:
        artifact.metrics["rows"] = 3
        artifact.labels["space"] = "s1"
    logged_metrics = {}
    kfp_artifact = SimpleNamespace(path=str(tmp_path / "made"), metadata={})
    kfp_metrics = SimpleNamespace(path=str(tmp_path / "metrics"), log_metric=logged_metrics.__setitem__)

    log_lineage(kfp_artifact, kfp_metrics)

    assert logged_metrics == {"rows": 3.0}
    assert kfp_artifact.metadata["space"] == "s1"
    # Without a file of its own a metrics artifact would never be found in the local cache.
    assert json.loads((tmp_path / "metrics").read_text()) == {"rows": 3.0}
