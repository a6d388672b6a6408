"""What a run in this process leaves behind."""

import builtins
from pathlib import Path
from types import SimpleNamespace

import pytest
from kfp import components
from kfp.local import logging_utils

from pipelines.compile_pipelines import PIPELINES
from pipelines.compiled_package import COMPILED_FOLDER, read_package
from pipelines.local_runner import _read_for_local_run, run_package


def test_print_is_as_it_was_after_steps_that_ran_side_by_side(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original_print = builtins.print
    package = tmp_path / "empty.yaml"
    package.write_text("{pipelineInfo: {name: empty}, root: {dag: {tasks: {}}}, components: {}}\n")

    def end_in_the_order_of_the_start() -> SimpleNamespace:
        first, second = logging_utils.indented_print(), logging_utils.indented_print()
        for step in (first, second):
            step.__enter__()
        for step in (first, second):
            step.__exit__(None, None, None)
        assert builtins.print is not original_print, "kfp leaves it indented"
        return SimpleNamespace(outputs={})

    monkeypatch.setattr(components, "load_component_from_text", lambda text: end_in_the_order_of_the_start)
    run_package(package, {}, home=tmp_path / "home")
    assert builtins.print is original_print


@pytest.mark.parametrize("name", PIPELINES)
def test_a_package_is_loaded_as_a_whole_though_a_step_has_its_name(name: str) -> None:
    package = COMPILED_FOLDER / f"{name}.yaml"
    pipeline = components.load_component_from_text(_read_for_local_run(package))
    assert sorted(pipeline.component_spec.inputs or {}) == sorted(read_package(package).parameters)
