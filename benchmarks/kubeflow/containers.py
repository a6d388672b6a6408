"""Images as they are built, and the pipeline in them.

`BASE`, `WHEELS` and what else `scripts/build_images.sh` takes come from the environment.
"""

import re
import shutil
import subprocess

from benchmarks.kubeflow.recorded_tests import run_recording_test
from benchmarks.shared.results import REPOSITORY, Row, make_row
from contracts.errors import UserError

_IMAGES = ("serve", "main", "triton")
_BUILT = re.compile(r"reaseq-(\w+):\S+ (\d+) MB (\d+) s")


def measure_images(*, quick: bool) -> list[Row]:
    """Builds the images; their sizes."""
    del quick
    engine = _find_engine()
    command = ["scripts/build_images.sh", engine, *_IMAGES]
    done = subprocess.run(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True, check=True)
    return [
        make_row(
            f"kubeflow.images.{image}_mb",
            int(size),
            unit="MB",
            better="lower",
            data=f"built by {engine} in {seconds} s, uncompressed",
        )
        for image, size, seconds in _BUILT.findall(done.stdout)
    ]


def measure_containers(*, quick: bool) -> list[Row]:
    """Do the steps measure in their images what they measure as subprocesses?"""
    del quick  # its shop is small already
    figures = run_recording_test(
        "tests/containers/test_steps_in_images.py::test_images_measure_what_subprocesses_measure"
    )
    data = "train_and_deploy without deployment, a small generated shop, each step in its image"
    return [
        make_row("kubeflow.containers.equal_metrics", figures["equal_metrics"], unit="of 1", data=data),
        make_row(
            "kubeflow.containers.minutes",
            figures["containers_seconds"] / 60,
            unit="min",
            better="lower",
            data=f"{data}; as subprocesses {figures['subprocesses_seconds'] / 60:.1f} min",
        ),
    ]


def _find_engine() -> str:
    for name in ("docker", "buildah", "podman"):
        # Docker's command may be there without its daemon.
        if shutil.which(name) and not subprocess.run([name, "info"], capture_output=True).returncode:
            return name
    raise UserError("no container engine answers; Docker, Buildah or Podman builds images")
