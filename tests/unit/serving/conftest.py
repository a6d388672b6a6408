"""A deployed ranker without a graph: spec, encoder and routes, for everything that does not run a model."""

from pathlib import Path

import numpy as np
import pytest

from contracts.artifacts import write_text
from models.ranker.config import FeatureConfig
from models.ranker.encoding import ItemEncoder
from models.ranker.spec import SPEC_FILE, RankerSpec, input_specs, output_specs
from serving.routes import Arm, Plan, write_routes

HISTORY, INFERRED, DIM = 4, 2, 3


@pytest.fixture
def spec(tmp_path: Path) -> RankerSpec:
    features = FeatureConfig()
    return RankerSpec(
        model_name="ranker_0123abcd",
        version="0123abcd4567ef89",
        space="sample-space",
        feature_service="ranker",
        history_length=HISTORY,
        inferred_length=INFERRED,
        embedding_dim=DIM,
        features=features,
        inputs=input_specs(features, history=HISTORY, inferred=INFERRED, dim=DIM),
        outputs=output_specs(),
        vocabularies={},
        price_edges=(10.0, 20.0),
    )


@pytest.fixture
def state(tmp_path: Path, spec: RankerSpec) -> Path:
    folder = tmp_path / "rankers" / spec.model_name
    folder.mkdir(parents=True)
    encoder = ItemEncoder({"item": {"a": 2}, "category": {}, "brand": {}}, np.array([10, 20], np.float32), DIM)
    files = encoder.save(folder)
    write_text(folder / SPEC_FILE, spec.model_copy(update={"vocabularies": files}).model_dump_json())
    arms = {name: Arm(model=spec.model_name, share=0.5) for name in ("control", "treatment")}
    write_routes(tmp_path, Plan(experiment="ranker", salt="1", arms=arms), note="test")
    return tmp_path
