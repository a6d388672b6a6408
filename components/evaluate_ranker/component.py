"""Measures a challenger and decides whether it may be deployed."""

from typing import NamedTuple

from kfp import dsl

from components.images import MAIN_IMAGE


@dsl.component(base_image=MAIN_IMAGE, install_kfp_package=False)
def evaluate_ranker(
    challenger: dsl.Input[dsl.Model],
    baseline: dsl.Input[dsl.Model],
    training_set: dsl.Input[dsl.Dataset],
    dataset: dsl.Input[dsl.Dataset],
    item_embeddings: dsl.Input[dsl.Dataset],
    config: str,
    champion: str,
    code_version: str,
    evaluation: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
) -> NamedTuple("Decision", [("promote", bool), ("evaluation_uri", str)]):  # type: ignore[valid-type]
    """Compares challenger, ids-only baseline and champion on the test part; the gate's rule is in the report.

    Args:
        challenger: the ranker just trained.
        baseline: the same network on ids alone.
        training_set: the lists with their features.
        dataset: the dataset artifact.
        item_embeddings: the item embeddings.
        config: JSON of `models.ranker.config.EvaluationConfig`.
        champion: folder of the ranker in service; empty when there is none.
        code_version: version of the library; part of the cache key.
        evaluation: metrics, report and decision.
        metrics: AUC, GAUC, NDCG@10, HR@10 per ranker and slice.
    """
    import json
    from collections import namedtuple
    from pathlib import Path

    from components.step_support import log_lineage
    from models.ranker.config import EvaluationConfig
    from models.ranker.evaluation.evaluate_ranker import evaluate_ranker as run

    out = Path(evaluation.path)
    run(
        Path(challenger.path),
        Path(baseline.path),
        Path(training_set.path),
        Path(dataset.path),
        Path(item_embeddings.path),
        EvaluationConfig.model_validate_json(config),
        champion=Path(champion) if champion else None,
        out=out,
    )
    log_lineage(evaluation, metrics)
    decision = json.loads((out / "decision.json").read_text(encoding="utf-8"))
    values = {"promote": decision["promote"], "evaluation_uri": evaluation.uri}
    return namedtuple("Decision", values)(**values)
