"""`python -m benchmarks.house`: what the house is for, on real data: does knowledge beat ids alone?

Runs the pipeline of configs/electronics.yaml (unchanged steps are reused), then trains three rankers once per seed on
the same rows: with knowledge; on ids alone with every enhancement off (a plain DIN); and the network with every other
enhancement but without knowledge, which tells what knowledge itself adds. All are measured on all test lists
("contemporaneous" candidates: a target against 99 items that others turned to at the same time). Writes
benchmarks/results/house.json.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.results import ROOT, Row, make_row, write_rows
from models.ranker.config import IDS_ONLY, WITHOUT_KNOWLEDGE
from models.ranker.evaluate import evaluate_ranker
from models.ranker.train import train_ranker
from pipelines.config import RunConfig, load_config
from reaseq.running import run_pipeline

COMMAND = "make bench-house"
DATA = "electronics (Amazon Reviews 2023, 5-core sample), contemporaneous candidates"
METRICS = {"auc": "AUC", "gauc": "GAUC", "ndcg10": "NDCG@10", "hr10": "HR@10"}
_PRIMARY = "contemporaneous"
PROTOCOLS = {_PRIMARY: "all", "within_cold": "cold"}


def main() -> int:
    """Measures and writes the rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds (default: 3)")
    seeds = range(parser.parse_args().seeds)
    os.chdir(ROOT.parent)  # the configuration's paths are relative to the repository
    config = load_config(Path("configs/electronics.yaml"))
    artifacts = run_pipeline(config, "train_and_deploy", deploy=False)
    measured = {seed: _measure(config, artifacts, seed) for seed in seeds}
    rows = list(_rows(measured))
    print(f"wrote {write_rows('house', rows)}")
    print("\n".join(f"{row.id}: {row.value:.4f} +- {row.sd or 0:.4f}" for row in rows))
    return 0


def _measure(config: RunConfig, artifacts: dict[str, Path], seed: int) -> dict[str, dict[str, dict[str, float]]]:
    """Role -> protocol -> metric -> value."""
    folder = config.home / "bench_house" / f"seed{seed}"
    inputs = (artifacts["training_set"], artifacts["dataset"], artifacts["item_embeddings"])
    ranker = config.ranker.model_copy(update={"seed": seed})
    for role, features in {"knowledge": ranker.features, "ids": IDS_ONLY, "without": WITHOUT_KNOWLEDGE}.items():
        chosen = ranker.model_copy(update={"features": features})
        train_ranker(*inputs, chosen, checkpoints=folder / "checkpoints", out=folder / role)
    # The third ranker takes the champion's place in the evaluation: it is measured on the same lists.
    evaluate_ranker(
        folder / "knowledge",
        folder / "ids",
        *inputs,
        config.evaluation,
        champion=folder / "without",
        out=folder / "evaluation",
    )
    content = json.loads((folder / "evaluation" / "metrics.json").read_text(encoding="utf-8"))
    rankers: dict[str, dict[str, dict[str, float]]] = content["rankers"]
    print(f"seed {seed}: {json.dumps({role: found['contemporaneous'] for role, found in rankers.items()})}", flush=True)
    return rankers


def _rows(measured: dict[int, dict[str, dict[str, dict[str, float]]]]) -> Sequence[Row]:
    seeds = list(measured)
    values = {
        f"house.electronics.knowledge_over_{name}.ndcg10_ratio": (
            "ratio",
            [m["challenger"][_PRIMARY]["ndcg10"] / m[role][_PRIMARY]["ndcg10"] for m in measured.values()],
        )
        for role, name in {"baseline": "ids", "champion": "same_network"}.items()
    }
    for role, name in {"baseline": "ids", "champion": "same_network", "challenger": "knowledge"}.items():
        for protocol, part in PROTOCOLS.items():
            for metric, unit in METRICS.items():
                found = [m[role][protocol][metric] for m in measured.values() if metric in m[role].get(protocol, {})]
                if len(found) == len(seeds):
                    values[f"house.electronics.{name}.{part}.{metric}"] = (unit, found)
    return [
        make_row(row_id, found, unit=unit, better="higher", data=DATA, command=COMMAND, seeds=seeds)
        for row_id, (unit, found) in values.items()
    ]


if __name__ == "__main__":
    sys.exit(main())
