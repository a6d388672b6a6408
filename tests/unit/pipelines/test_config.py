"""The run configuration: read, overridden, and refused with every error at once."""

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.config_text import check_json_keys, dump_yaml, parse_yaml
from contracts.errors import UserError
from pipelines.config import RunConfig, dump_config, load_config


def test_three_errors_are_reported_together(tmp_path):
    config_path = tmp_path / "run.yaml"
    config_path.write_text("name: My Shop\nranker: {max_epochs: 0}\nbehavior: {dimensions: 3}\n")

    with pytest.raises(UserError) as caught:
        load_config(config_path)

    message = str(caught.value)
    assert message.startswith("3 error(s)")
    for dotted_key, value in (("name", "My Shop"), ("ranker.max_epochs", "0"), ("behavior.dimensions", "3")):
        assert f"{dotted_key}:" in message
        assert value in message


def test_what_is_printed_is_read_back_as_the_same_run(tmp_path):
    config_path = tmp_path / "run.yaml"
    config_path.write_text(dump_config(RunConfig(name="other")))

    assert load_config(config_path) == RunConfig(name="other")


def test_overrides_win_over_the_file(tmp_path):
    config_path = tmp_path / "run.yaml"
    config_path.write_text("ranker: {max_epochs: 2, dim: 32}\n")

    config = load_config(config_path, ["ranker.max_epochs=5", "name=b"])

    assert (config.name, config.ranker.max_epochs, config.ranker.dim) == ("b", 5, 32)


@pytest.mark.parametrize(
    ("content", "message"),
    [("- a\n- b\n", "must hold a mapping"), ("a: [1\n", "not valid YAML"), (None, "no configuration file")],
)
def test_what_is_not_a_configuration_is_named(tmp_path, content, message):
    config_path = tmp_path / "run.yaml"
    if content is not None:
        config_path.write_text(content)
    with pytest.raises(UserError, match=message):
        load_config(config_path)


@pytest.mark.parametrize("override", ["ranker.max_epochs", "=3", "name.first=3"])
def test_a_malformed_override_is_named(override):
    with pytest.raises(UserError):
        load_config(None, ["name=a", override])


@pytest.fixture
def load(tmp_path):
    def load_text(text, *overrides):
        (tmp_path / "run.yaml").write_text(text)
        return load_config(tmp_path / "run.yaml", list(overrides))

    return load_text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: a\nranker: {dim: 32}\nname: b\n", "line 3: 'name' stands there already, on line 1"),
        (
            "ranker:\n  dim: 32\n  seed: 1\n  dim: 64\n",
            "line 4: 'ranker.dim' stands there already, on line 2",
        ),
        ("data:\n  events:\n    event_types: {1: click, '1': order}\n", "'data.events.event_types.1' stands"),
        ("name: a\nname: b\nranker: {}\nranker: {}\n", "line 2: 'name'.*line 4: 'ranker'"),
        ("ranker:\n\tdim: 32\n", "line 2 has a tab; YAML wants spaces"),
        ("name: [a\n", "not valid YAML: line 2, column 1"),
        ("[" * 100_000, "nested more than 100 deep"),
        ("name: " + "9" * 5000, "cannot be read"),
        ("? [a, b]\n: 1\n", "a key must be a text"),
    ],
)
def test_what_yaml_would_take_in_silence_or_crash_on_is_named_with_its_line(load, text, message):
    with pytest.raises(UserError, match=message):
        load(text)


def test_values_mean_what_they_look_like(load):
    types = "{no: click, on: cart, 010: order, 1.0: impression, 7: click}"
    config = load(
        "name: 'no'\nserving: {salt: 12:30, experiment: on}\nserved_log: {use: no}\nshop: {num_items: 3e2}\n"
        f"data: {{items: {{uri: a.csv}}, events: {{uri: b.csv, event_types: {types}}}}}\n"
    )
    assert (config.serving.salt, config.serving.experiment, config.served_log.use) == ("12:30", "on", False)
    assert config.shop.num_items == 300
    assert list(config.data.events.event_types) == ["no", "on", "010", "1.0", "7"]


def test_a_number_where_a_text_belongs_is_told_to_be_quoted(load):
    with pytest.raises(UserError, match=r"serving.salt: .*write it in quotes \(given: 7, line 2\)"):
        load("serving:\n  salt: 7\n")


def test_a_wrong_override_is_blamed_and_the_file_is_not(load):
    with pytest.raises(UserError) as caught:
        load("name: mine\n", "ranker.dim=0")
    message = str(caught.value)
    assert message.startswith("1 error(s) in --set ranker.dim=0:")
    assert "run.yaml" not in message


def test_faults_of_the_file_and_of_overrides_are_told_apart(load):
    with pytest.raises(UserError) as caught:
        load("name: My Shop\nranker: {seed: x}\n", "ranker.dim=0", "workspace=/tmp/w")
    message = str(caught.value)
    assert "(given: 'My Shop', line 1)" in message
    assert "(given: 0, by --set ranker.dim=0)" in message
    assert "workspace" not in message


def test_an_override_that_breaks_a_rule_about_two_keys_is_named(load):
    with pytest.raises(UserError, match=r"--set features\.history_length=60"):
        load("ranker: {search_length: 100}\n", "features.history_length=60", "name=a")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["name=a", "name=b"], "--set name=a and --set name=b set the same key"),
        (["ranker.dim=8", "ranker={seed: 1}"], "set the same key"),
        (["ranker={dim: 8, dim: 9}"], "--set ranker={dim: 8, dim: 9} has keys that stand twice"),
        (["name=[a"], r"--set name=\[a is not valid YAML"),
        (["name.first=b"], "--set name.first=b: 'name' holds a value"),
    ],
)
def test_a_bad_override_is_named(load, overrides, message):
    with pytest.raises(UserError, match=message):
        load("name: mine\n", *overrides)


def test_an_empty_section_can_be_filled_by_an_override(load):
    assert load("ranker:\n", "ranker.dim=32").ranker.dim == 32


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 1,\n "b": {"c": 1,\n\t"c": 2}}', "line 3: 'b.c' stands there already, on line 2"),
        ('{"a": 1, "a": 1}', "'a' stands"),
    ],
)
def test_json_keys_that_stand_twice_are_named(text, message):
    with pytest.raises(UserError, match=message):
        check_json_keys(text, origin="serving.json")
    check_json_keys("no json", origin="serving.json")


# PyYAML writes a line break of another kind (NEL) as a space.
_TEXTS = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), max_size=8)
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**18), 10**18) | st.floats(allow_nan=False) | _TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXTS, inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None)
@given(_VALUES)
def test_what_is_written_as_yaml_is_read_back_as_the_same(value):
    assert parse_yaml(dump_yaml(value), origin="x").value == value


@settings(max_examples=200, deadline=None)
@given(st.text("ab:-[]{}\n\t &*!<>|'\"#01.,?%@`~=", max_size=30))
def test_no_text_makes_the_reader_fail_otherwise_than_with_a_message(text):
    with contextlib.suppress(UserError):
        parse_yaml(text, origin="x")
