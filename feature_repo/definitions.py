"""What `feast apply` in this folder registers: the views over the sample tables in `sample_data/`.

A pipeline registers the same views over its own tables, through `feature_repo.materialize`.
"""

from datetime import timedelta
from pathlib import Path

from contracts.artifacts import read_lineage
from feature_repo.views import base_services, entities, feature_views

_SAMPLE = Path(__file__).parent / "sample_data"

user, item = entities()
user_behaviors, inferred_behaviors, items, item_knowledge = feature_views(
    _SAMPLE, space=read_lineage(_SAMPLE).labels["space"], ttl=timedelta(0)
)
ranker_v1, ranker_v1_training = base_services([user_behaviors, inferred_behaviors, items, item_knowledge])
