"""A deployed ranker without a graph: spec, encoder and routes, for everything that does not run a model."""

from pathlib import Path

import numpy as np
import pytest

from contracts.artifacts import write_text
from models.ranker.config import RankerFeatures
from models.ranker.inputs.item_encoder import ItemEncoder
from models.ranker.inputs.ranker_spec import SPEC_FILE, RankerSpec, list_graph_inputs, list_graph_outputs
from serving.deployment.routes import Arm, ExperimentPlan, write_routes

HISTORY, INFERRED, DIM = 4, 2, 3


@pytest.fixture
def spec(tmp_path: Path) -> RankerSpec:
    features = RankerFeatures()
    return RankerSpec(
        model_name="ranker_0123abcd",
        version="0123abcd4567ef89",
        space="sample-space",
        feature_service="ranker",
        history_length=HISTORY,
        inferred_length=INFERRED,
        embedding_dim=DIM,
        features=features,
        inputs=list_graph_inputs(features, history=HISTORY, inferred=INFERRED, dim=DIM),
        outputs=list_graph_outputs(),
        vocabularies={},
        price_edges=(10.0, 20.0),
    )


@pytest.fixture
def state(tmp_path: Path, spec: RankerSpec) -> Path:
    folder = tmp_path / "rankers" / spec.model_name
    folder.mkdir(parents=True)
    encoder = ItemEncoder(
        {"item": {"a": 2}, "category": {}, "brand": {}}, np.array([10, 20], np.float32), DIM
    )
    files = encoder.save_vocabularies(folder)
    write_text(folder / SPEC_FILE, spec.model_copy(update={"vocabularies": files}).model_dump_json())
    arms = {name: Arm(model=spec.model_name, share=0.5) for name in ("control", "treatment")}
    write_routes(tmp_path, ExperimentPlan(experiment="ranker", salt="1", arms=arms), note="test")
    return tmp_path
