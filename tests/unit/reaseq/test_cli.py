"""The command: every verb is there, a user's error is one clean line and exit code 2."""

import shlex
from importlib import import_module

import pytest

from pipelines.config import load_config
from reaseq.cli import EXAMPLES, VERBS, build_parser, main

VERB_EXAMPLES = [example for verb in VERBS for example in import_module(f"reaseq.{verb}").EXAMPLES]


def test_every_verb_explains_itself_and_ends_with_examples(capsys):
    for verb in VERBS:
        with pytest.raises(SystemExit) as ended:
            main([verb, "--help"])
        assert ended.value.code == 0
        help_page = capsys.readouterr().out
        assert VERBS[verb].split(":")[0] in " ".join(help_page.split())
        assert f"\n  reaseq {verb}" in help_page.split("\nexamples:\n")[1]


def test_the_help_names_the_exit_codes(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])

    exit_codes = capsys.readouterr().out.split("exit codes:")[1]
    assert all(exit_code in exit_codes for exit_code in ("0 ", "1 ", "2 ", "130", "143"))


@pytest.mark.parametrize("example", VERB_EXAMPLES)
def test_every_example_is_understood_and_its_configuration_is_valid(example):
    command, *example_words = shlex.split(example.split(" > ")[0])

    parsed_arguments = build_parser().parse_args(example_words)

    assert command == "reaseq"
    if "overrides" in parsed_arguments:
        load_config(parsed_arguments.config, parsed_arguments.overrides)


def test_the_examples_of_the_first_help_page_are_of_verbs():
    assert {shlex.split(example)[1] for example in EXAMPLES} <= VERBS.keys()


@pytest.mark.parametrize("example", [text for text in VERB_EXAMPLES if text.startswith("reaseq config")])
def test_the_examples_that_only_print_run(example, capsys):
    assert main(shlex.split(example)[1:]) == 0

    assert "ranker:" in capsys.readouterr().out


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_the_completion_script_knows_verbs_and_options(shell, capsys):
    assert main(["completion", shell]) == 0

    completion_script = capsys.readouterr().out
    assert "refresh_catalogue" in completion_script
    assert all(verb in completion_script for verb in VERBS)


def test_the_resolved_configuration_is_printed(capsys):
    assert main(["config", "--set", "name=mine"]) == 0

    assert "name: mine" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["config", "--set", "ranker.dim=0"], "ranker.dim"),
        (["config", "--config", "nowhere.yaml"], "nowhere.yaml"),
        (["rank", "--user", "u", "--candidates", "a", "--url", "ftp://x"], "ftp://x"),
        (["report", "--set", "workspace={}"], "reaseq run"),
        (["dashboard", "--set", "workspace={}"], "reaseq report"),
        (["knowledge", "show", "a", "--set", "workspace={}"], "reaseq run"),
        (["knowledge", "show", "a", "--knowledge", "{}"], "not a complete artifact"),
        (["knowledge", "neighbors", "a", "--set", "workspace={}"], "reaseq run"),
        (["rollback", "--set", "workspace={}"], "deploy"),
        (["promote", "--set", "workspace={}"], "deploy"),
        (["canary", "somewhere", "--share", "0.1", "--set", "workspace={}"], "deploy"),
        (["submit", "--host", "http://x", "--schedule", "* * * * * *", "--wait"], "--wait"),
    ],
)
def test_a_users_error_is_one_clean_message(tmp_path, capsys, argv, message):
    assert main([word.format(tmp_path / "none") for word in argv]) == 2

    error_text = capsys.readouterr().err
    assert error_text.startswith(f"reaseq {argv[0]}: ")
    assert message in error_text
    assert "Traceback" not in error_text
