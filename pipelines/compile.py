"""Compiles the DAGs to IR YAML."""

from pathlib import Path
from typing import Any

import yaml
from kfp import compiler

from components.images import MAIN_IMAGE
from pipelines.monitor import monitor
from pipelines.refresh import refresh_catalogue, refresh_users
from pipelines.simulate_shop import simulate_shop
from pipelines.train_and_deploy import train_and_deploy

COMPILED = Path(__file__).parent / "compiled"
PIPELINES = {
    "simulate_shop": simulate_shop,
    "train_and_deploy": train_and_deploy,
    "refresh_catalogue": refresh_catalogue,
    "refresh_users": refresh_users,
    "monitor": monitor,
}


def compile_pipelines(out: Path = COMPILED, *, image: str = MAIN_IMAGE) -> list[Path]:
    """Compiles every pipeline into `out/<name>.yaml`.

    Args:
        out: folder to write into.
        image: image of the `main` environment; on a cluster, pin it by digest (the cache key holds this string).
    """
    out.mkdir(parents=True, exist_ok=True)
    return [_compile(name, out, image) for name in PIPELINES]


def _compile(name: str, out: Path, image: str) -> Path:
    path = out / f"{name}.yaml"
    compiler.Compiler().compile(PIPELINES[name], str(path))
    if image != MAIN_IMAGE:
        documents = list(yaml.safe_load_all(path.read_text(encoding="utf-8")))
        _set_image(documents[0], image)
        path.write_text(yaml.safe_dump_all(documents, sort_keys=True), encoding="utf-8")
    return path


def _set_image(spec: dict[str, Any], image: str) -> None:
    for executor in spec["deploymentSpec"]["executors"].values():
        if "container" in executor:
            executor["container"]["image"] = image
