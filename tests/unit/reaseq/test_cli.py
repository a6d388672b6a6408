"""The command: every verb is there, a user's error is one clean line and exit code 2."""

import pytest

from reaseq.cli import VERBS, main


def test_every_verb_explains_itself(capsys):
    for verb in VERBS:
        with pytest.raises(SystemExit) as ended:
            main([verb, "--help"])
        assert ended.value.code == 0
        assert VERBS[verb].split(":")[0] in " ".join(capsys.readouterr().out.split())


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
        (["knowledge", "neighbours", "a", "--set", "workspace={}"], "reaseq run"),
        (["rollback", "--set", "workspace={}"], "deploy"),
        (["promote", "--set", "workspace={}"], "deploy"),
        (["canary", "somewhere", "--share", "0.1", "--set", "workspace={}"], "deploy"),
        (["submit", "--host", "http://x", "--schedule", "* * * * * *", "--wait"], "--wait"),
        (["submit", "--host", "http://x", "--pipeline", "refresh_users"], "item_embeddings_uri"),
        (["submit", "--host", "http://x", "--artifact", "item_embeddings"], "NAME=URI"),
    ],
)
def test_a_users_error_is_one_clean_message(tmp_path, capsys, argv, message):
    assert main([word.format(tmp_path / "none") for word in argv]) == 2

    error = capsys.readouterr().err
    assert error.startswith(f"reaseq {argv[0]}: ")
    assert message in error
    assert "Traceback" not in error
