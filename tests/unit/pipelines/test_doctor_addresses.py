"""The doctor reads the addresses of servers, and prints no part of a password."""

import socket
from pathlib import Path

import pytest

from pipelines.config import load_config
from pipelines.doctor.check_services import check_services
from pipelines.doctor.package_needs import list_wanted_variables

ROOT = Path(__file__).parents[3]
CASCADE = (
    "knowledge.teacher={kind: cascade, share: 0.2, calibration: /var/lib/reaseq/data/calibration.json, "
    "student: {kind: openai, model: small, base_url: 'http://student:8000/v1'}, "
    "fallback: {kind: openai, model: large, base_url: 'https://api.teacher.example/v1', "
    "api_key_env: LARGE_KEY}}"
)


@pytest.fixture(autouse=True)
def _no_name_service(monkeypatch: pytest.MonkeyPatch) -> None:
    def know_nobody(*_: object, **__: object) -> None:
        raise socket.gaierror("unknown name")

    monkeypatch.setattr(socket, "getaddrinfo", know_nobody)


def list_checks(*overrides: str) -> list[str]:
    config = load_config(ROOT / "configs/cluster.yaml", list(overrides))
    checks = check_services(config, namespace="me", api=None, no_api="no kubeconfig", gateway_url=None)
    return list(map(str, checks))


@pytest.mark.parametrize(
    ("connection", "told"),
    [
        ("redis:6380,password=never-print-me", "Redis redis:6380"),
        ("redis,password=never-print-me", "Redis redis:6379"),
        ("rediss://:never-print-me@redis.me.svc:6380/0", "Redis redis.me.svc:6380"),
        ("redis://:never-print-me/@redis:6379", "REASEQ_REDIS of secret"),
        ("redis:never-print-me", "REASEQ_REDIS of secret"),
    ],
)
def test_host_and_port_alone_are_told(connection: str, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REASEQ_REDIS", connection)
    text = "\n".join(list_checks())
    assert told in text
    assert "never-print-me" not in text


def test_both_teachers_of_a_cascade_are_asked() -> None:
    text = "\n".join(list_checks(CASCADE))
    assert "teacher student:8000" in text
    assert "teacher api.teacher.example:443: its name means nothing here, and is no Service's" in text
    config = load_config(ROOT / "configs/cluster.yaml", [CASCADE])
    assert "LARGE_KEY" in set(list_wanted_variables(config))
