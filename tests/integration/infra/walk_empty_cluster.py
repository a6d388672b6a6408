"""From an empty claim to a ranked request and the first report, in a network and a file system of its own.

Runs inside `unshare --mount --net` (see test_empty_cluster.py): there the claim lies at its own path, the
services have their own names and ports, and nothing of the machine is touched.
"""

import fcntl
import json
import os
import socket
import struct
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import yaml
from kfp_server import Cluster, serve_cluster
from manifest_processes import Pod, render_overlay, write_config_maps

from components.port_tables import KIND_TABLES, list_table_faults
from contracts.artifacts import read_lineage
from contracts.digests import LINEAGE_FILE
from pipelines.local_runner import run_package
from reaseq.cli import main
from serving.triton.triton_server import find_triton_wheel

ROOT = Path(__file__).parents[3]
PASSWORD, TOKEN = "redis-password", "gateway-token"
SECRETS = {"reaseq-redis": {"password": PASSWORD}, "reaseq-gateway": {"token": TOKEN}}
PIPELINE_SECRET = {"REASEQ_REDIS": f"redis:6379,password={PASSWORD}"}
"""What docs/how-to/run-on-kubeflow.md puts into the secret `reaseq-pipelines`."""
# So small a shop proves nothing: what is tested is that everything fits together.
SMALL = (
    *("shop.num_items=80", "shop.num_users=60", "shop.num_days=8"),
    *("behavior.training.epochs=1", "ranker.max_epochs=1", "ranker.min_steps=1"),
    *("evaluation.min_gain_over_baseline=-1.0", "evaluation.max_ece=1.0", "evaluation.min_effective_lists=0"),
    "monitoring.min_requests=2",
)


def prepare_node(folder: Path) -> None:
    """Loopback up, the services' names, the claim at its path, an /etc that may be written."""
    with socket.socket() as any_socket:
        fcntl.ioctl(
            any_socket, 0x8914, struct.pack("16sh14x", b"lo", 0x1 | 0x40)
        )  # SIOCSIFFLAGS: up, running
    claim = folder / "claim"
    claim.mkdir()
    mount("-t", "tmpfs", "tmpfs", "/var/lib")
    Path("/var/lib/reaseq").mkdir()
    mount("--bind", str(claim), "/var/lib/reaseq")
    overlay = folder / "overlay"
    overlay.mkdir()
    mount("-t", "tmpfs", "tmpfs", str(overlay))
    for name in ("upper", "work"):
        (overlay / name).mkdir()
    mount(
        "-t",
        "overlay",
        "overlay",
        "-o",
        f"lowerdir=/etc,upperdir={overlay}/upper,workdir={overlay}/work",
        "/etc",
    )
    with Path("/etc/hosts").open("a") as hosts:
        hosts.write("127.0.0.1 localhost triton redis gateway\n")


def mount(*words: str) -> None:
    subprocess.run(["mount", *words], check=True)


def build_triton_image(folder: Path) -> dict[str, str]:
    """The parts of triton.Dockerfile's image, put together as it does; returns its environment."""
    wheel, home = find_triton_wheel(), folder / "triton-image"
    (home / "bin").mkdir(parents=True)
    (home / "backends").mkdir()
    start_script = home / "bin" / "tritonserver"
    start_script.write_text((ROOT / "infra/images/tritonserver.sh").read_text())
    start_script.chmod(0o755)
    python_backend = home / "backends" / "python"
    subprocess.run(
        ["cp", "-r", str(wheel.server_folder / "backends" / "python"), str(python_backend)], check=True
    )
    stub = wheel.server_folder / "python_backend_stubs" / wheel.python_version / "triton_python_backend_stub"
    subprocess.run(["cp", str(stub), str(python_backend)], check=True)
    (home / "venv").symlink_to(wheel.site_packages.parents[2])
    (home / "libpython").symlink_to(wheel.python_libraries)
    return os.environ | {"TRITON_HOME": str(home), "PATH": f"{home}/bin:{os.environ['PATH']}"}


def submit(pipeline: str, folder: Path) -> dict[str, Path]:
    """Submits as a user does, then runs what arrived at the server, with the secret that steps see."""
    cluster = Cluster()
    with serve_cluster(cluster) as host:
        words = ["submit", "--host", host, "--config", str(ROOT / "configs/cluster-local.yaml")]
        overrides = [word for override in SMALL for word in ("--set", override)]
        assert main([*words, *overrides, "--pipeline", pipeline]) == 0
    (run,) = cluster.runs.values()
    package = folder / f"{pipeline}.yaml"
    package.write_text(yaml.safe_dump(cluster.read_spec(run)))
    os.environ.update(PIPELINE_SECRET)
    try:
        return run_package(package, run["runtime_config"]["parameters"], home=folder / pipeline)
    finally:
        for name in PIPELINE_SECRET:
            del os.environ[name]


def inspect_artifacts(folder: Path) -> tuple[list[str], list[str]]:
    """What the tables of all artifacts are not that they should be, and the kinds of artifacts."""
    made = [path.parent for path in folder.rglob(LINEAGE_FILE)]
    with_tables = {path: kind for path in made if (kind := read_lineage(path).kind) in KIND_TABLES}
    faults = [fault for path in with_tables for fault in list_table_faults(path)]
    return faults, sorted(set(with_tables.values()))


def post(path: str, body: dict[str, Any]) -> Any:
    request = Request(
        f"http://gateway:3000{path}",
        json.dumps(body).encode(),
        {"content-type": "application/json", "authorization": f"Bearer {TOKEN}"},
    )
    with urlopen(request, timeout=30) as answer:
        return json.loads(answer.read())


def walk(folder: Path) -> dict[str, Any]:
    """The walk; returns what was seen on the way."""
    prepare_node(folder)
    scripts = sysconfig.get_path("scripts")
    os.environ["PATH"] = f"{scripts}:{os.environ['PATH']}"
    manifests = render_overlay(ROOT / "infra/k8s/overlays/local")
    (folder / "logs").mkdir()
    pods = {
        name: Pod(manifests, name, secrets=SECRETS, log=folder / "logs" / name)
        for name in ("redis", "triton", "gateway")
    }
    images = {
        "redis": dict(os.environ),
        "triton": build_triton_image(folder),
        "gateway": dict(os.environ),
    }
    seen: dict[str, Any] = {"triton_user": pods["triton"].spec["securityContext"]["runAsUser"]}
    # The one path that is mapped: a root file system has no folder to mount Redis' volume at.
    (folder / "redis").mkdir()
    redis = pods["redis"].container
    redis["args"] = [text.replace("dir /data", f"dir {folder}/redis") for text in redis["args"]]
    try:
        for name, pod in pods.items():
            pod.run_init_containers(images[name])
            write_config_maps(manifests, pod)
            pod.start(images[name], cwd=ROOT)
        for pod in pods.values():
            pod.wait_started()
        seen["cold"] = {
            name: {kind: pod.probe(kind) for kind in ("liveness", "readiness")} for name, pod in pods.items()
        }
        with urlopen("http://gateway:3000/metrics", timeout=30) as answer:
            seen["cold_metrics"] = answer.read().decode()
        submit("simulate_shop", folder)
        submit("train_and_deploy", folder)
        pods["gateway"].container["startupProbe"] |= pods["gateway"].container["readinessProbe"]
        pods["gateway"].wait_started()
        candidates = ["i00001", "i00002", "i00003", "i00004"]
        ask = {"user_id": "u000001", "candidates": candidates, "request_id": "first"}
        seen["ranked"] = post("/rank", ask)
        click = {"user_id": "u000001", "item_id": candidates[0], "event_type": "click", "request_id": "first"}
        seen["clicked"] = post("/events", {"events": [click]})
        for number in range(2, 30):
            # Of both arms, since drift and lift compare them.
            post("/rank", ask | {"user_id": f"u{number:06d}", "request_id": f"of-user-{number}"})
        submit("monitor", folder)
        seen["table_faults"], seen["kinds"] = inspect_artifacts(folder)
        seen["warm"] = {
            name: {kind: pod.probe(kind) for kind in ("liveness", "readiness")} for name, pod in pods.items()
        }
        seen["restarts"] = sum(pod.process is None or pod.process.poll() is not None for pod in pods.values())
        return seen
    finally:
        for pod in pods.values():
            if pod.process is not None:
                pod.process.terminate()
        for pod in pods.values():
            if pod.process is not None:
                pod.process.wait(60)


if __name__ == "__main__":
    print("SEEN " + json.dumps(walk(Path(sys.argv[1]))))
