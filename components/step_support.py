"""What every component does around its library call."""

import json
from pathlib import Path

from kfp import dsl

from contracts.artifacts import read_lineage


def log_lineage(artifact: dsl.Artifact, metrics: dsl.Metrics) -> None:
    """Copies an artifact's metrics and labels from its lineage file to KFP.

    The metrics are also written as a file: a metrics artifact without one is never found in the local cache.
    """
    artifact_lineage = read_lineage(Path(artifact.path))
    artifact.metadata.update({"digest": artifact_lineage.digest, **artifact_lineage.labels})
    log_values(artifact_lineage.metrics, metrics)


def log_values(values: dict[str, float], metrics: dsl.Metrics) -> None:
    """Logs plain numbers as KFP metrics, and as a JSON file beside them."""
    for metric_name, value in values.items():
        metrics.log_metric(metric_name, value)
    metrics_path = Path(metrics.path)
    metrics_path.parent.mkdir(parents=True, exist_ok=True)
    metrics_path.write_text(json.dumps(values, indent=1, sort_keys=True), encoding="utf-8")
