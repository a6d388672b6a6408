"""Runs the containers of rendered manifests as processes, with their own arguments, environment and probes.

Secrets come from a mapping, config maps from the manifests. Volumes are folders that the caller has mounted
at the paths of the manifests.
"""

import os
import re
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

import yaml

Manifest = dict[str, Any]
PROBE_TIMEOUT_S = 2.0


def render_overlay(folder: Path) -> list[Manifest]:
    """Renders an overlay as `kubectl apply -k` would."""
    command = ["kubectl", "kustomize", str(folder)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return [manifest for manifest in yaml.safe_load_all(done.stdout) if manifest]


class Pod:
    """The one container of a workload, and what was seen of its probes."""

    def __init__(
        self, manifests: list[Manifest], name: str, *, secrets: Mapping[str, Mapping[str, str]], log: Path
    ) -> None:
        """Takes the pod's specification from the rendered manifests."""
        self._manifests, self._secrets, self._log = manifests, secrets, log
        workloads = [m for m in manifests if "template" in m.get("spec", {})]
        self.spec = next(m for m in workloads if m["metadata"]["name"] == name)["spec"]["template"]["spec"]
        (self.container,) = self.spec["containers"]
        self.process: subprocess.Popen[bytes] | None = None

    def run_init_containers(self, environment: Mapping[str, str]) -> None:
        """Runs them one after the other; one that fails fails the pod."""
        for container in self.spec.get("initContainers", ()):
            subprocess.run(
                self._build_command(container), check=True, env=self._build_env(container, environment)
            )

    def start(self, environment: Mapping[str, str], *, cwd: Path) -> None:
        """Starts the container; `environment` is that of its image."""
        with self._log.open("ab") as log_file:
            self.process = subprocess.Popen(
                self._build_command(self.container),
                env=self._build_env(self.container, environment),
                cwd=cwd,
                stdout=log_file,
                stderr=subprocess.STDOUT,
            )

    def probe(self, kind: str) -> tuple[bool, str]:
        """Asks a probe once: does it pass, and what did it say?"""
        probe = self.container[f"{kind}Probe"]
        if "exec" in probe:
            command = probe["exec"]["command"]
            done = subprocess.run(
                command, capture_output=True, text=True, env=self._build_env(self.container, os.environ)
            )
            return done.returncode == 0, done.stdout + done.stderr
        ports = {port["name"]: port["containerPort"] for port in self.container["ports"]}
        address = f"http://127.0.0.1:{ports[probe['httpGet']['port']]}{probe['httpGet']['path']}"
        try:
            with urlopen(address, timeout=probe.get("timeoutSeconds", PROBE_TIMEOUT_S)) as answer:
                return answer.status == 200, answer.read().decode()
        except HTTPError as error:
            return False, error.read().decode()
        except (URLError, OSError) as error:
            return False, str(error)

    def wait_started(self) -> None:
        """Waits as long as the startup probe allows; fails where Kubernetes would restart the container."""
        probe = self.container["startupProbe"]
        # Twice the time that the probe allows: the machine that tests run on is shared.
        deadline = time.monotonic() + 2 * probe["periodSeconds"] * probe["failureThreshold"]
        while not (result := self.probe("startup"))[0]:
            assert self.process is not None
            assert self.process.poll() is None, f"the container ended:\n{self.read_log()}"
            assert time.monotonic() < deadline, f"would be restarted: {result[1]}\n{self.read_log()}"
            time.sleep(0.3)

    def read_log(self) -> str:
        """The end of what the container wrote."""
        return self._log.read_text(errors="replace")[-3000:]

    def _build_command(self, container: Manifest) -> list[str]:
        return [*container.get("command", ()), *container.get("args", ())]

    def _build_env(self, container: Manifest, image_environment: Mapping[str, str]) -> dict[str, str]:
        values: dict[str, str] = {}
        for variable in container.get("env", ()):
            value = self._resolve_variable(variable)
            if value is not None:
                # $(NAME) stands for a variable that was defined before.
                values[variable["name"]] = re.sub(
                    r"\$\((\w+)\)", lambda match: values.get(match.group(1), match.group(0)), value
                )
        return dict(image_environment) | values

    def _resolve_variable(self, variable: Manifest) -> str | None:
        if "value" in variable:
            return str(variable["value"])
        reference = variable["valueFrom"]["secretKeyRef"]
        value = self._secrets.get(reference["name"], {}).get(reference["key"])
        assert value is not None or reference.get("optional"), f"no secret {reference}"
        return value


def write_config_maps(manifests: list[Manifest], pod: Pod) -> None:
    """Writes the config maps that a pod mounts to where it mounts them."""
    maps = {m["metadata"]["name"]: m["data"] for m in manifests if m["kind"] == "ConfigMap"}
    mounts = {mount["name"]: Path(mount["mountPath"]) for mount in pod.container["volumeMounts"]}
    for volume in pod.spec["volumes"]:
        if "configMap" in volume:
            folder = mounts[volume["name"]]
            folder.mkdir(parents=True, exist_ok=True)
            for file_name, text in maps[volume["configMap"]["name"]].items():
                (folder / file_name).write_text(text)
