"""What the guides to a cluster tell to type is what kubectl, reaseq and promtool understand."""

import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from infra.check_alerts import list_alerts
from pipelines.compiled_package import COMPILED_FOLDER
from reaseq.cli import main

ROOT = Path(__file__).parents[3]
PAGES = {
    name: (ROOT / f"docs/how-to/{name}.md").read_text()
    for name in ("run-on-kubeflow", "answer-alerts", "upgrade-and-recover")
}
ALERTS = PAGES["answer-alerts"]
SECTIONS = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", ALERTS, flags=re.M | re.S))
PLACES = {
    ".venv/bin/reaseq": "reaseq",
    # Somebody may serve on the usual port of this machine.
    "reaseq rank": "reaseq rank --url http://127.0.0.1:1",
    "https://kubeflow.example/pipeline": "http://127.0.0.1:1",
    "http://127.0.0.1:3000": "http://127.0.0.1:1",
    " configs/": f" {ROOT}/configs/",
    "-k infra/": f"-k {ROOT}/infra/",
    "--package compiled/": f"--package {COMPILED_FOLDER}/",
    "--packages compiled": f"--packages {COMPILED_FOLDER}",
}
"""What stands in a page -> what stands for it here."""


def list_blocks(language: str, text: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.M | re.S)


def read_commands(text: str) -> Iterator[str]:
    """What a shell would run of a page, from top to bottom, its variables filled in."""
    variables: dict[str, str] = {}
    for line in "".join(list_blocks("bash", text)).splitlines():
        line = re.sub(r"\$\([^)]*\)", "made", line)
        line = re.sub(r"\$(\w+)", lambda name: variables[name[1]], line)
        if assignment := re.fullmatch(r'(?:export )?([A-Z]+)=(?:"(.*)"|(\S*))', line):
            variables[assignment[1]] = assignment[2] or assignment[3]
            continue
        for named, place in PLACES.items():
            line = line.replace(named, place)
        yield line.removesuffix(" &")


def list_commands(program: str) -> list[str]:
    commands = {line for text in PAGES.values() for line in read_commands(text)}
    return sorted(line for line in commands if line.startswith(f"{program} "))


def test_each_alert_has_a_section_with_a_command_and_an_end() -> None:
    assert list(SECTIONS) == list_alerts()
    rules = yaml.safe_load((ROOT / "infra/prometheus/rules.yaml").read_text())["groups"]
    severities = {
        rule["alert"]: rule["labels"]["severity"] for g in rules for rule in g["rules"] if "alert" in rule
    }
    for alert, text in SECTIONS.items():
        assert f"*{severities[alert].capitalize()}.*" in text
        assert "```bash" in text
        assert "Over when" in text


def test_each_alert_names_its_section() -> None:
    rules = yaml.safe_load((ROOT / "infra/prometheus/rules.yaml").read_text())["groups"]
    for rule in (rule for group in rules for rule in group["rules"] if "alert" in rule):
        assert rule["annotations"]["runbook"] == f"docs/how-to/answer-alerts.md#{rule['alert'].lower()}"


def test_blocks_are_shell() -> None:
    for block in (block for text in PAGES.values() for block in list_blocks("bash", text)):
        done = subprocess.run(["bash", "-n", "-c", block], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


def test_packages_are_compiled_as_the_pages_say(tmp_path: Path) -> None:
    for command in (line for line in list_commands("reaseq") if line.startswith("reaseq compile")):
        words = shlex.split(command.replace("--out compiled", f"--out {tmp_path}"))
        assert main(words[1:]) == 0
        assert (tmp_path / "train_and_deploy.yaml").is_file()


@pytest.mark.parametrize(
    "command", [line for line in list_commands("reaseq") if not line.startswith("reaseq compile")]
)
def test_reaseq_gets_as_far_as_the_cluster(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong option, package or setting fails before."""
    assert main(shlex.split(command, comments=True)[1:]) == 2
    printed = capsys.readouterr()
    assert re.search(
        r"no (Kubeflow Pipelines API|gateway) answers at http://127.0.0.1", printed.out + printed.err
    )


def test_the_recovery_page_covers_all_that_may_be_lost() -> None:
    page = PAGES["upgrade-and-recover"]
    for place in ("claim", "Redis", "Triton", "Pipelines"):
        assert re.search(rf"^\*\*(The )?{place} is lost", page, flags=re.M), place
    for title in ("Upgrade", "Go back", "Back up", "Recover"):
        section = page.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
        assert list_blocks("bash", section), title


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
@pytest.mark.parametrize("command", list_commands("kubectl"))
def test_kubectl_reads_the_command(command: str) -> None:
    """It gets as far as asking a server that is not there; a wrong verb or flag fails before."""
    server = ["--server=http://127.0.0.1:1", "--request-timeout=1s", "--kubeconfig=/dev/null"]
    program, *words = shlex.split(command, comments=True)
    # What follows `--` is the pod's.
    options = words.index("--") if "--" in words else len(words)
    done = subprocess.run(
        [program, *words[:options], *server, *words[options:]], capture_output=True, text=True
    )
    assert done.returncode != 0
    assert re.search(r"connection.*refused|was refused|unable to connect", done.stderr, flags=re.I), (
        done.stderr
    )


def test_what_kubectl_is_told_to_touch_is_there() -> None:
    workloads = {"deployment": {"gateway", "triton"}, "statefulset": {"redis"}, "hpa": {"gateway", "triton"}}
    named = re.findall(r"\b(deployment|statefulset|hpa)[/ ](\w+)", "\n".join(list_commands("kubectl")))
    assert named
    assert all(name in workloads[kind] for kind, name in named)


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not there (scripts/get_tools.sh)")
def test_prometheus_reads_the_queries(tmp_path: Path) -> None:
    rules = [{"record": f"query:{i}", "expr": query} for i, query in enumerate(list_blocks("promql", ALERTS))]
    assert len(rules) >= len(SECTIONS)
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "runbooks", "rules": rules}]}))
    done = subprocess.run(["promtool", "check", "rules", str(path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
