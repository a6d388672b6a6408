"""The Dockerfiles keep to our rules; one stands for each environment that has a lock of its own."""

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

from components.images import MAIN_IMAGE, SERVE_IMAGE, TRITON_IMAGE, VERSION, VLLM_IMAGE

ROOT = Path(__file__).parents[3]
ENVIRONMENTS = ("main", "serve", "triton", "vllm")
SERVERS = ("serve", "triton")
"""The others are images of pipeline steps, too, which Kubeflow watches."""


def instructions(environment: str) -> list[str]:
    """The Dockerfile's instructions, continued lines joined, comments gone."""
    text = (ROOT / f"infra/images/{environment}.Dockerfile").read_text()
    text = re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE)
    return [line.strip() for line in text.replace("\\\n", " ").splitlines() if line.strip()]


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_image_installs_its_own_lock_and_runs_unprivileged(environment: str) -> None:
    lines = instructions(environment)
    assert any(f"-r /opt/{environment}.lock" in line for line in lines)
    assert [line for line in lines if line.startswith("USER")] == ["USER 10001:10001"]
    assert lines.index("USER 10001:10001") > max(i for i, line in enumerate(lines) if line.startswith("RUN"))


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_image_tells_its_commit_has_no_installer_and_can_be_read(environment: str) -> None:
    lines = instructions(environment)
    last_stage = lines[max(i for i, line in enumerate(lines) if line.startswith("FROM")) :]
    assert "ARG COMMIT=unknown" in last_stage
    assert any('image.revision="${COMMIT}"' in line for line in last_stage if line.startswith("LABEL"))
    assert not any("pip" in line for line in last_stage), "nothing is installed when it runs"
    assert any("--without-pip /opt/venv" in line for line in lines)
    (installed,) = [line for line in lines if f"-r /opt/{environment}.lock" in line]
    assert "--require-hashes" in installed
    # A checkout under umask 077 would be unreadable to user 10001.
    copied = [line for line in lines if line.startswith("COPY") and ".lock" not in line]
    assert all("--chmod=755" in line or "--from=build" in line for line in copied)
    has_health_check = any(line.startswith("HEALTHCHECK") for line in last_stage)
    assert has_health_check == (environment in SERVERS)


@pytest.mark.parametrize(
    ("backend", "wheels", "is_checked"), [("", "", True), ("cpu", "", False), ("", "/wheels", False)]
)
def test_the_hash_of_torch_is_checked_unless_it_is_of_your_own_choice(
    backend: str, wheels: str, is_checked: bool, tmp_path: Path
) -> None:
    (installed,) = [line for line in instructions("main") if "-r /opt/main.lock" in line]
    command = re.sub(r"RUN (--mount=\S+ +)*", "", installed).replace("/opt/build/bin/uv", "echo")
    variables = {"UV_TORCH_BACKEND": backend, "UV_FIND_LINKS": wheels}
    done = subprocess.run(["sh", "-c", command], env=variables, capture_output=True, text=True, check=True)
    assert ("--constraint /opt/torch-cuda.lock --require-hashes" in done.stdout) == is_checked


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_image_brings_the_list_of_what_is_in_it(environment: str) -> None:
    lines = instructions(environment)
    (written,) = [line for line in lines if "cyclonedx-py environment" in line]
    assert "--output-file /opt/venv/sbom.cdx.json" in written
    installs = [i for i, line in enumerate(lines) if "uv pip install" in line]
    assert lines.index(written) > max(installs), "the list comes last"


def test_one_module_names_all_images() -> None:
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"] == VERSION
    images = dict(zip(ENVIRONMENTS, (MAIN_IMAGE, SERVE_IMAGE, TRITON_IMAGE, VLLM_IMAGE), strict=True))
    base = yaml.safe_load((ROOT / "infra/k8s/base/kustomization.yaml").read_text())
    # Steps run `main`; its name is compiled into the packages.
    served = set(images.values()) - {MAIN_IMAGE}
    assert {f"{image['name']}:{image['newTag']}" for image in base["images"]} == served
    for environment, image in images.items():
        text = (ROOT / f"infra/images/{environment}.Dockerfile").read_text()
        assert f"docker build -f infra/images/{environment}.Dockerfile -t {image} ." in text
        assert f'org.opencontainers.image.title="{image.partition(":")[0]}"' in text


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_base_is_an_argument_with_a_full_version(environment: str) -> None:
    lines = instructions(environment)
    assert lines[0].startswith("ARG BASE=")
    assert re.search(r":\d+\.\d+\.\d+", lines[0])
    assert {line.split()[1] for line in lines if line.startswith("FROM")} == {"${BASE}"}


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_nothing_is_fetched_by_hand_and_no_secret_is_baked_in(environment: str) -> None:
    text = " ".join(instructions(environment))
    assert not re.search(r"\b(curl|wget|ADD)\b|https?://(?!127\.0\.0\.1)", text)
    assert not re.search(r"\b(ARG|ENV)\s+\S*(PASSWORD|SECRET|TOKEN)", text)


def test_all_build_with_the_uv_of_the_setup_script() -> None:
    (version,) = re.findall(r'UV_VERSION="([\d.]+)"', (ROOT / "scripts/setup.sh").read_text())
    for environment in ENVIRONMENTS:
        assert f"ARG UV_VERSION={version}" in instructions(environment)


def test_every_room_is_in_the_build_context() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    rooms = [name.removesuffix("*") for name in project["tool"]["setuptools"]["packages"]["find"]["include"]]
    allowed = (ROOT / ".dockerignore").read_text().splitlines()
    assert [room for room in rooms if f"!{room}" not in allowed] == []


@pytest.mark.skipif(shutil.which("hadolint") is None, reason="hadolint is not there (scripts/get_tools.sh)")
def test_hadolint_finds_nothing() -> None:
    files = sorted(str(path) for path in (ROOT / "infra/images").glob("*.Dockerfile"))
    done = subprocess.run(["hadolint", *files], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_scripts_are_valid_shell() -> None:
    for script in [*(ROOT / "scripts").glob("*.sh"), ROOT / "infra/images/tritonserver.sh"]:
        subprocess.run(["bash", "-n", str(script)], check=True)
