"""The run configuration: read, overridden, and refused with every error at once."""

import pytest

from contracts.errors import UserError
from pipelines.config import RunConfig, dump_config, load_config


def test_three_errors_are_reported_together(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("name: My Shop\nranker: {max_epochs: 0}\nbehavior: {dimensions: 3}\n")

    with pytest.raises(UserError) as caught:
        load_config(path)

    message = str(caught.value)
    assert message.startswith("3 error(s)")
    for place, value in (("name", "My Shop"), ("ranker.max_epochs", "0"), ("behavior.dimensions", "3")):
        assert f"{place}:" in message
        assert value in message


def test_what_is_printed_is_read_back_as_the_same_run(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(dump_config(RunConfig(name="other")))

    assert load_config(path) == RunConfig(name="other")


def test_overrides_win_over_the_file(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("ranker: {max_epochs: 2, dim: 32}\n")

    config = load_config(path, ["ranker.max_epochs=5", "name=b"])

    assert (config.name, config.ranker.max_epochs, config.ranker.dim) == ("b", 5, 32)


@pytest.mark.parametrize(
    ("content", "message"),
    [("- a\n- b\n", "must hold a mapping"), ("a: [1\n", "not valid YAML"), (None, "no configuration file")],
)
def test_what_is_not_a_configuration_is_named(tmp_path, content, message):
    path = tmp_path / "run.yaml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match=message):
        load_config(path)


@pytest.mark.parametrize("override", ["ranker.max_epochs", "=3", "name.first=3"])
def test_a_malformed_override_is_named(override):
    with pytest.raises(UserError):
        load_config(None, ["name=a", override])
