"""What `feast apply` in this folder registers: the views over the sample tables in `sample_data/`.

A pipeline registers the same views over its own tables, through `feature_repo.online.materialize_features`.
"""

from datetime import timedelta
from pathlib import Path

from contracts.artifacts import read_lineage
from feature_repo.feature_views import ITEM, USER, define_base_services, define_feature_views

_SAMPLE = Path(__file__).parent / "sample_data"

user, item = USER, ITEM
user_behaviors, inferred_behaviors, items, item_knowledge = define_feature_views(
    _SAMPLE, space=read_lineage(_SAMPLE).labels["space"], ttl=timedelta(0)
)
ranker_v1, ranker_v1_training = define_base_services(
    [user_behaviors, inferred_behaviors, items, item_knowledge]
)
