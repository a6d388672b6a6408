"""A file of schedules is read strictly: every fault is told with its line and the remedy."""

import re
from pathlib import Path

import pytest

from contracts.errors import UserError
from pipelines.cluster.cron_expression import require_cron
from pipelines.cluster.schedule_file import ReadSchedules, read_schedule_file
from pipelines.compiled_package import COMPILED_FOLDER

CONFIGS = Path(__file__).parents[3] / "configs"
SOUND = f"""\
owner: shop
schedules:
  - name: night
    pipeline: refresh_users
    config: {CONFIGS}/cluster-local.yaml
    cron: "0 30 3 * * *"
"""


def read(text: str, folder: Path) -> ReadSchedules:
    (folder / "schedules.yaml").write_text(text)
    return read_schedule_file(folder / "schedules.yaml", packages_folder=COMPILED_FOLDER)


def test_the_shipped_file_is_sound() -> None:
    schedules = read_schedule_file(CONFIGS / "schedules.yaml", packages_folder=COMPILED_FOLDER)
    assert [w.pipeline_name for w in schedules.wanted] == [
        "refresh-users",
        "refresh-catalogue",
        "monitor",
        "train-and-deploy",
    ]
    assert [w.is_enabled for w in schedules.wanted] == [True, True, True, False]
    assert {w.mark for w in schedules.wanted} == {"made by `reaseq schedules apply`, owner shop"}


def test_parameters_stand_above_the_configuration(tmp_path: Path) -> None:
    text = SOUND.replace("refresh_users", "monitor") + "    parameters: {act: true}\n"
    (wanted,) = read(text, tmp_path).wanted
    assert (wanted.arguments["act"], wanted.arguments["train"]) == (True, True)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("cron:", "crom:", r"line 6: schedules\.0\.crom: unknown key; allowed: name, pipeline, config, cron"),
        ("owner:", "ownr:", r"line 1: ownr: unknown key; allowed: owner"),
        ('"0 30 3 * * *"', '"30 3 * * *"', r"line 6: .*must have six fields"),
        ('"0 30 3 * * *"', '"0 30 24 * * *"', r"'24' is no hour; allowed are .*0 to 23"),
        ("refresh_users", "refresh", r"line 3: night: pipeline 'refresh' is none of change_routes, "),
        ("cluster-local.yaml", "nowhere.yaml", r"night: no configuration file at '.*nowhere\.yaml'"),
        ("cluster-local.yaml", "shop.yaml", r"cannot work in a pod: .*online_store = sqlite"),
        ("name: night", "name: Night Run", r"name: 'Night Run' must be lowercase letters, digits"),
    ],
)
def test_faults(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in SOUND
    with pytest.raises(UserError) as refused:
        read(SOUND.replace(old, new), tmp_path)
    assert re.search(message, str(refused.value)), refused.value


@pytest.mark.parametrize("text", ["- a", "hello", "5"])
def test_a_file_of_another_shape_is_told_its_keys(tmp_path: Path, text: str) -> None:
    with pytest.raises(UserError, match="must have the keys owner, experiment, schedules"):
        read(text, tmp_path)


def test_all_faults_are_told_at_once(tmp_path: Path) -> None:
    twin = SOUND[SOUND.index("  - name") :]
    extra = twin.replace("night", "other") + "    parameters: {nonsense: 1}\n"
    with pytest.raises(UserError) as refused:
        read(SOUND + twin + extra, tmp_path)
    assert "line 7: name 'night' stands twice" in str(refused.value)
    assert "line 11: other: arguments of pipeline 'refresh-users': nonsense: unknown" in str(refused.value)


@pytest.mark.parametrize(
    "cron",
    ["0 30 3 * * *", "0 */15 8-18 ? JAN-MAR MON,WED", "0 0 0 1 1 0", "5 0-59/2 * * * 1-5", "0 0 3 31 2 MON"],
)
def test_sound_cron_expressions(cron: str) -> None:
    require_cron(cron)


@pytest.mark.parametrize(
    "cron",
    [
        "",
        "* * * * *",
        "60 * * * * *",
        "0 0 0 0 * *",
        "0 0 0 * 13 *",
        "0 0 0 * * 7",
        "0 0/0 * * * *",
        "0 9-8 * * * *",
        "0 0 3 * * MO",
        "0 0 3 * * 1,",
        "@daily",
        "0 0 3 * * -1",
        "0 0 1-2-3 * * *",
        "TZ=Europe/Berlin 0 0 3 * * *",
        # They would start runs within seconds of each other.
        "* 0 3 * * *",
        "*/10 * * * * *",
        "0,30 0 3 * * *",
        # Days that never come.
        "0 0 3 31 2 *",
        "0 0 3 30-31 FEB ?",
        "0 0 3 31 4,6,9,11 *",
        "0 0 3 31 2-2/4 *",
    ],
)
def test_unsound_cron_expressions(cron: str) -> None:
    with pytest.raises(UserError, match="cron"):
        require_cron(cron)
