"""A tiny compiled package, and a server that takes it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from kfp import compiler, dsl
from kfp_server import Cluster, serve_cluster

from pipelines.cluster.credentials import TOKEN_FILE_VARIABLE, TOKEN_VARIABLE


@dsl.component(base_image="reaseq:test", install_kfp_package=False)
def add(a: int, b: int, note: str) -> int:
    return a + b + len(note)


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    @dsl.pipeline(name="tiny")
    def tiny(config: str, top: int = 3) -> None:
        add(a=top, b=1, note=config)

    path = tmp_path_factory.mktemp("compiled") / "tiny.yaml"
    compiler.Compiler().compile(tiny, str(path))
    return path


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
    monkeypatch.delenv(TOKEN_FILE_VARIABLE, raising=False)
    return Cluster()


@pytest.fixture
def host(cluster: Cluster) -> Iterator[str]:
    with serve_cluster(cluster) as address:
        yield address
