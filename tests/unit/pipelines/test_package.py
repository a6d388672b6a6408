"""Packages and arguments are checked before anything is sent to a cluster."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from contracts.errors import UserError
from pipelines.compiled_package import (
    COMPILED_FOLDER,
    MAX_ARGUMENT_CHARS,
    MAX_PACKAGE_BYTES,
    check_arguments,
    count_steps,
    read_package,
)

SPEC: dict[str, Any] = {
    "pipelineInfo": {"name": "tiny"},
    "root": {
        "inputDefinitions": {
            "parameters": {
                "config": {"parameterType": "STRING"},
                "top": {"parameterType": "NUMBER_INTEGER", "defaultValue": 3},
                "rate": {"parameterType": "NUMBER_DOUBLE", "isOptional": True},
                "deploy": {"parameterType": "BOOLEAN", "defaultValue": False},
                "share": {"parameterType": "NUMBER_DOUBLE", "defaultValue": 0.0},
            }
        }
    },
}


@pytest.fixture
def package(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(SPEC))
    return path


def test_the_version_follows_the_content(package: Path) -> None:
    first_package = read_package(package)
    assert first_package.name == "tiny"
    assert read_package(package).version == first_package.version
    package.write_text(package.read_text() + "\n")
    assert read_package(package).version != first_package.version


def test_a_platform_spec_may_follow(package: Path) -> None:
    text = package.read_text()
    for platform_spec in ("---\nplatforms: {}\n", "---\n"):
        package.write_text(text + platform_spec)
        assert set(read_package(package).parameters) == {"config", "top", "rate", "deploy", "share"}


def test_what_is_no_package_is_refused(tmp_path: Path, package: Path) -> None:
    with pytest.raises(UserError, match="not found"):
        read_package(tmp_path / "none.yaml")
    package.rename(tmp_path / "tiny.json")
    with pytest.raises(UserError, match="must be a compiled"):
        read_package(tmp_path / "tiny.json")
    for package_text, expected_message in [
        ("a: [", "not valid YAML"),
        ("a: 1", "not a compiled pipeline"),
        ("", "not a compiled"),
        ("pipelineInfo: {}\nroot: {}", r"not a compiled pipeline \(KeyError: 'name'\)"),
        ("pipelineInfo: tiny\nroot: {}", "not a compiled"),
        ("pipelineInfo: {name: tiny}\nroot: []", "not a compiled"),
        ("pipelineInfo: {name: tiny}\nroot: {inputDefinitions: {parameters: []}}", "not a compiled"),
        ("pipelineInfo: {name: tiny}\nroot: {}\n---\nplatforms: []", "not a compiled"),
        ("pipelineInfo: {name: tiny}\nroot: {}\n---\n- a", "not a compiled"),
    ]:
        package.write_text(package_text)
        with pytest.raises(UserError, match=expected_message):
            read_package(package)
    package.write_text("#" * (MAX_PACKAGE_BYTES + 1))
    with pytest.raises(UserError, match="a cluster takes"):
        read_package(package)


@pytest.mark.parametrize(
    "arguments",
    [
        {"config": "{}"},
        {"config": "{}", "top": 1, "rate": 1, "deploy": True},
        {"config": "x" * MAX_ARGUMENT_CHARS},
    ],
)
def test_good_arguments_pass(package: Path, arguments: dict[str, Any]) -> None:
    check_arguments(read_package(package), arguments)


def test_all_wrong_arguments_are_told_at_once(package: Path) -> None:
    with pytest.raises(UserError) as caught:
        check_arguments(
            read_package(package),
            {"top": "5", "rate": True, "deploy": 1, "spelt_wrong": 1, "share": float("nan")},
        )
    for expected_problem in (
        "config: missing",
        "top: str given, NUMBER_INTEGER expected",
        "rate: bool given",
        "deploy: int given, BOOLEAN expected",
        "spelt_wrong: unknown",
        "share: nan is no number that JSON can hold",
        "It takes: config, deploy, rate, share, top.",
    ):
        assert expected_problem in str(caught.value)


def test_a_long_argument_names_the_limit(package: Path) -> None:
    with pytest.raises(UserError, match=f"config: {MAX_ARGUMENT_CHARS + 1} characters"):
        check_arguments(read_package(package), {"config": "x" * (MAX_ARGUMENT_CHARS + 1)})


def test_the_steps_of_a_run_are_counted_before_it_starts() -> None:
    package = read_package(COMPILED_FOLDER / "train_and_deploy.yaml")
    shards: dict[str, Any] = {"knowledge_shards": ["0/2", "1/2"], "user_shards": ["0/1"]}
    num_steps = count_steps(package, shards | {"deploy": True})
    assert count_steps(package, shards | {"deploy": False}) == num_steps - 2
    assert (
        count_steps(package, shards | {"deploy": True, "user_shards": ["0/3", "1/3", "2/3"]}) == num_steps + 2
    )
    assert num_steps == 18
