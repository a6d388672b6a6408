"""Compiled packages are read by the formats of the oldest backend that we name, of ours and of the newest."""

import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.compile_pipelines import compile_pipelines
from pipelines.compiled_package import COMPILED_FOLDER
from pipelines.step_policy import PodPolicy

pytestmark = pytest.mark.integration
PARSER = Path(__file__).with_name("parse_packages.py")
FORMATS = ("kfp-pipeline-spec", "kfp-kubernetes")
OTHERS = ("protobuf<7", "googleapis-common-protos", "pyyaml")


@pytest.fixture(scope="module")
def formats(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The formats of one backend's version, in a folder of their own."""
    folder = tmp_path_factory.mktemp("formats")
    uv = Path(sys.executable).with_name("uv")
    install = [str(uv), "pip", "install", "--quiet", "--python", sys.executable, "--target", str(folder)]
    pinned = [f"{name}=={request.param}" for name in FORMATS]
    for words in (["--no-deps", *pinned], [*OTHERS]):
        done = subprocess.run([*install, *words], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"the formats of {request.param} cannot be installed: {done.stderr[-300:]}")
    return folder


def parse_packages(formats: Path, packages: Path) -> subprocess.CompletedProcess[str]:
    # Without the environment's own packages, which hold another version of the same formats.
    command = [sys.executable, "-I", "-S", str(PARSER), str(formats)]
    files = sorted(map(str, packages.glob("*.yaml")))
    assert files
    return subprocess.run([*command, *files], capture_output=True, text=True)


@pytest.mark.parametrize("formats", ["2.16.1", "2.17.3"], indirect=True)
def test_the_committed_packages_are_read(formats: Path) -> None:
    done = parse_packages(formats, COMPILED_FOLDER)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("formats", ["2.15.2"], indirect=True)
def test_the_oldest_backend_reads_packages_that_name_no_user(formats: Path, tmp_path: Path) -> None:
    done = parse_packages(formats, COMPILED_FOLDER)
    assert done.returncode == 1
    assert "securityContext" in done.stdout, "what the guide says of 2.15"
    compile_pipelines(tmp_path, policy=PodPolicy(run_as_user=None))
    done = parse_packages(formats, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
