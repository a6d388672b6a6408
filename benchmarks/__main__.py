"""`python -m benchmarks NAME [PART ...] [--quick]`: measures, and writes benchmarks/results/NAME.json.

`--list` prints every benchmark with its parts. A part writes its rows when it ends, so a stopped run loses
one. `--quick` is smaller and shorter. It writes nothing, but compares with benchmarks/baselines.json. The
exit code is 1 on a regression and 2 where the code to be measured is not committed.
"""

import argparse
import os
import sys
from collections.abc import Callable, Iterable
from functools import partial

from benchmarks.shared.baselines import find_regressions, read_baselines
from benchmarks.shared.public_data import PublicDataMissingError
from benchmarks.shared.results import REPOSITORY, Row, require_committed_code, write_rows
from contracts.errors import UserError

Measure = Callable[..., Iterable[Row]]
WITHOUT_QUICK_FORM = ("knowledge", "demo")


# Imports wait until a benchmark is asked for, since each needs libraries of its own.
def load_knowledge_parts() -> dict[str, Measure]:
    """Explicit reasoning: what knowledge is worth, and what distillation costs."""
    from benchmarks.knowledge.embed_speed import measure_embedding_speed
    from benchmarks.knowledge.facet_worth import measure_facet_worth
    from benchmarks.knowledge.handbook_precision import measure_handbook_precision
    from benchmarks.knowledge.orchestration import measure_orchestration
    from benchmarks.knowledge.part_worth import measure_part_worth
    from benchmarks.knowledge.pretrained import measure_pretrained
    from benchmarks.knowledge.quality import measure_quality
    from benchmarks.knowledge.recorded_worth import measure_recorded_worth
    from benchmarks.knowledge.student_teacher import measure_student_teacher
    from benchmarks.knowledge.student_worth import measure_student_worth
    from benchmarks.knowledge.vllm import measure_vllm

    return {
        "quality": measure_quality,
        "recorded": measure_recorded_worth,
        "facets": measure_facet_worth,
        "part": measure_part_worth,
        "handbook": measure_handbook_precision,
        "orchestration": measure_orchestration,
        "vllm": measure_vllm,
        "pretrained": measure_pretrained,
        "student_lm": measure_student_teacher,
        "student_worth": measure_student_worth,
        "embed_speed": measure_embedding_speed,
    }


def load_behavior_parts() -> dict[str, Measure]:
    """Latent reasoning: hidden behaviors found, purchases elsewhere, speed, memory."""
    from benchmarks.behavior.knowledge_worth import measure_knowledge_worth
    from benchmarks.behavior.memory import measure_memory_growth
    from benchmarks.behavior.quality import measure_quality
    from benchmarks.behavior.shop import measure_shop_recall
    from benchmarks.behavior.speed import measure_speed

    return {
        "quality": measure_quality,
        "knowledge": measure_knowledge_worth,
        "shop": measure_shop_recall,
        "speed": measure_speed,
        "memory": measure_memory_growth,
    }


def load_ranker_parts() -> dict[str, Measure]:
    """The ranker: its ladder, its peers, its cost."""
    from benchmarks.ranker.cost import measure_training_cost
    from benchmarks.ranker.ladder import measure_ladder
    from benchmarks.ranker.long import measure_long_histories
    from benchmarks.ranker.peers.compare import measure_peer_rankers
    from benchmarks.ranker.score import measure_scoring
    from benchmarks.ranker.shop import measure_shop_calibration

    return {
        "score": measure_scoring,
        "cost": measure_training_cost,
        "long": measure_long_histories,
        "shop": measure_shop_calibration,
        "peers": measure_peer_rankers,
        "ladder_scientific": partial(measure_ladder, "scientific"),
        "ladder_electronics": partial(measure_ladder, "electronics"),
    }


def load_serving_parts() -> dict[str, Measure]:
    """Serving on real servers: latency, load, faults, hostile requests, switches, missing parts."""
    from benchmarks.serving.degraded import measure_degraded_answers
    from benchmarks.serving.faults import measure_fault_recovery
    from benchmarks.serving.fuzz import measure_fuzzing
    from benchmarks.serving.latency import measure_request_latency
    from benchmarks.serving.materialize import measure_materialization
    from benchmarks.serving.switch import measure_switching
    from benchmarks.serving.throughput import measure_throughput

    return {
        "latency": measure_request_latency,
        "throughput": measure_throughput,
        "materialize": measure_materialization,
        "faults": measure_fault_recovery,
        "fuzz": measure_fuzzing,
        "switch": measure_switching,
        "degraded": measure_degraded_answers,
    }


def load_loop_parts() -> dict[str, Measure]:
    """The loop: what rankers earn on the pages of simulated shops, by the exact truth."""
    from benchmarks.loop.gate import measure_gate
    from benchmarks.loop.rankers import measure_small_shops, measure_tail_shops
    from benchmarks.loop.rounds import measure_rounds
    from benchmarks.loop.skew import measure_skew
    from benchmarks.loop.when import measure_when

    return {
        "small_shops": measure_small_shops,
        "gate": measure_gate,
        "tail_shops": measure_tail_shops,
        "rounds": measure_rounds,
        "when": measure_when,
        "skew": measure_skew,
    }


def load_monitoring_parts() -> dict[str, Measure]:
    """Lift, plans and decisions on experiments whose truth is known."""
    from benchmarks.monitoring.drift import measure_drift
    from benchmarks.monitoring.interleaving_gain import measure_interleaving
    from benchmarks.monitoring.large_log import measure_large_log
    from benchmarks.monitoring.lift_levels import measure_cuped_levels, measure_levels, measure_peeking
    from benchmarks.monitoring.planned_power import measure_cuped, measure_mismatch, measure_power
    from benchmarks.monitoring.planted_worlds import measure_decisions

    return {
        "levels": measure_levels,
        "peeking": measure_peeking,
        "power": measure_power,
        "cuped": measure_cuped,
        "cuped_levels": measure_cuped_levels,
        "mismatch": measure_mismatch,
        "interleaving": measure_interleaving,
        "decisions": measure_decisions,
        "drift": measure_drift,
        "large_log": measure_large_log,
    }


def load_data_parts() -> dict[str, Measure]:
    """Data as it comes: messy exports, public cases, the cost of ingestion."""
    from benchmarks.data.ingest_cost import measure_ingestion
    from benchmarks.data.messy_exports import (
        measure_cases,
        measure_damaged_exports,
        measure_generated_exports,
    )

    return {
        "cases": measure_cases,
        "messy": measure_generated_exports,
        "damaged": measure_damaged_exports,
        "ingest": measure_ingestion,
    }


def load_kubeflow_parts() -> dict[str, Measure]:
    """The path through a cluster, as far as one machine can walk it."""
    from benchmarks.kubeflow.checked_manifests import measure_alerts, measure_policy
    from benchmarks.kubeflow.cluster_path import measure_empty_cluster, measure_faults, measure_refreshes
    from benchmarks.kubeflow.containers import measure_containers, measure_images
    from benchmarks.kubeflow.deployments import measure_deployments

    return {
        "empty_cluster": measure_empty_cluster,
        "refresh": measure_refreshes,
        "faults": measure_faults,
        "policy": measure_policy,
        "alerts": measure_alerts,
        "deployments": measure_deployments,
        "images": measure_images,
        "containers": measure_containers,
    }


def load_demo_parts() -> dict[str, Measure]:
    """The demo from a clean clone."""
    from benchmarks.demo import measure_demo

    return {"demo": measure_demo}


BENCHMARKS: dict[str, Callable[[], dict[str, Measure]]] = {
    "data": load_data_parts,
    "knowledge": load_knowledge_parts,
    "behavior": load_behavior_parts,
    "ranker": load_ranker_parts,
    "serving": load_serving_parts,
    "loop": load_loop_parts,
    "monitoring": load_monitoring_parts,
    "kubeflow": load_kubeflow_parts,
    "demo": load_demo_parts,
}


def measure_parts(name: str, parts: dict[str, Measure], *, quick: bool) -> list[str]:
    """Measures parts one by one; returns what is worse than its baseline, which only `quick` compares."""
    os.chdir(REPOSITORY)  # the configurations' paths are relative to the repository
    regressions = []
    for part_name, measure_part in parts.items():
        print(f"== {name}: {part_name}", flush=True)
        try:
            if quick:
                regressions += measure_quick_part(measure_part)
                continue
            rows = list(measure_part() if name in WITHOUT_QUICK_FORM else measure_part(quick=False))
        except PublicDataMissingError as error:
            print(f"skipped: {error}", flush=True)
            continue
        print(f"wrote {write_rows(name, rows)}")
        print_rows(rows)
    return regressions


def measure_quick_part(measure_part: Measure) -> list[str]:
    """Measures a part's quick form; returns what is worse than its baseline in two measurements.

    Other work on the machine spoils one measurement, and must not fail a change.
    """
    regressions: dict[str, str] = {}
    for _ in range(2):
        rows = [row.model_copy(update={"id": f"quick.{row.id}"}) for row in measure_part(quick=True)]
        print_rows(rows)
        worse = find_regressions(rows, read_baselines())
        regressions = {row_id: worse[row_id] for row_id in worse if not regressions or row_id in regressions}
        if not regressions:
            break
        print("\n".join(["worse than the baseline:", *regressions.values()]), flush=True)
    return list(regressions.values())


def print_rows(rows: list[Row]) -> None:
    """Prints a line per figure."""
    for row in rows:
        print(f"{row.id}: {row.value:.4g} +- {row.sd or 0:.2g} {row.unit}", flush=True)


def run_benchmark() -> int:
    """Measures the parts that the command line names, all by default; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("name", nargs="?", choices=BENCHMARKS, metavar="NAME", help=", ".join(BENCHMARKS))
    parser.add_argument("parts", nargs="*", metavar="PART", help="parts to measure; all by default")
    parser.add_argument("--quick", action="store_true", help="small, short, and compared with the baselines")
    parser.add_argument("--list", action="store_true", help="print the benchmarks with their parts")
    arguments = parser.parse_args()
    if arguments.list or arguments.name is None:
        print("\n".join(f"{name}: {' '.join(load_parts())}" for name, load_parts in BENCHMARKS.items()))
        return 0
    if arguments.quick and arguments.name in WITHOUT_QUICK_FORM:
        parser.error(f"'{arguments.name}' has no quick form; leave out --quick")
    all_parts = BENCHMARKS[arguments.name]()
    for part_name in arguments.parts:
        if part_name not in all_parts:
            parser.error(f"no part '{part_name}' in '{arguments.name}'; there are {', '.join(all_parts)}")
    try:
        if not arguments.quick:
            require_committed_code()
        chosen_parts = {part_name: all_parts[part_name] for part_name in arguments.parts or all_parts}
        regressions = measure_parts(arguments.name, chosen_parts, quick=arguments.quick)
    except UserError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 2
    print("\n".join(regressions))
    return 1 if regressions else 0


if __name__ == "__main__":
    sys.exit(run_benchmark())
