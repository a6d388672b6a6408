"""Kubernetes' Pod Security Standards: does a pod meet `baseline`, does it meet `restricted`?

After https://kubernetes.io/docs/concepts/security/pod-security-standards/, for Linux.
"""

from collections.abc import Iterator

from infra.reachability.cluster import Manifest

_BASELINE_CAPABILITIES = {
    *("AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE"),
    *("SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT"),
}
_SELINUX_TYPES = {"", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"}
_SYSCTLS = {
    *("kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.ip_unprivileged_port_start"),
    *("net.ipv4.tcp_syncookies", "net.ipv4.ping_group_range", "net.ipv4.ip_local_reserved_ports"),
    *("net.ipv4.tcp_keepalive_time", "net.ipv4.tcp_fin_timeout", "net.ipv4.tcp_keepalive_intvl"),
    *("net.ipv4.tcp_keepalive_probes", "net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem"),
}
_RESTRICTED_VOLUMES = {
    *("configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected"),
    "secret",
}


def find_level(spec: Manifest) -> str:
    """The strictest level that a pod meets: restricted, baseline or privileged."""
    if any(find_baseline_violations(spec)):
        return "privileged"
    return "baseline" if any(find_restricted_violations(spec)) else "restricted"


def find_baseline_violations(spec: Manifest) -> Iterator[str]:
    """What `baseline` forbids."""
    for name in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(name):
            yield f"{name} is true"
    for volume in spec.get("volumes", ()):
        if "hostPath" in volume:
            yield f"volume {volume['name']} is a path of the node"
    pod_context = spec.get("securityContext", {})
    for sysctl in pod_context.get("sysctls", ()):
        if sysctl["name"] not in _SYSCTLS:
            yield f"sysctl {sysctl['name']} is set"
    yield from _find_context_violations("the pod", pod_context)
    for container in _list_containers(spec):
        name, context = container["name"], container.get("securityContext", {})
        yield from _find_context_violations(name, context)
        if context.get("privileged"):
            yield f"{name} is privileged"
        if added := set(context.get("capabilities", {}).get("add", ())) - _BASELINE_CAPABILITIES:
            yield f"{name} adds capabilities {', '.join(sorted(added))}"
        if context.get("procMount", "Default") != "Default":
            yield f"{name} sets procMount"
        if any(port.get("hostPort") for port in container.get("ports", ())):
            yield f"{name} takes a port of the node"


def find_restricted_violations(spec: Manifest) -> Iterator[str]:
    """What `restricted` forbids on top of `baseline`."""
    for volume in spec.get("volumes", ()):
        if kinds := volume.keys() - {"name"} - _RESTRICTED_VOLUMES:
            yield f"volume {volume['name']} is a {min(kinds)}"
    pod_context = spec.get("securityContext", {})
    for container in _list_containers(spec):
        name, context = container["name"], container.get("securityContext", {})
        if context.get("allowPrivilegeEscalation") is not False:
            yield f"{name} may escalate privileges"
        if not context.get("runAsNonRoot", pod_context.get("runAsNonRoot")):
            yield f"{name} may run as root"
        if context.get("runAsUser", pod_context.get("runAsUser")) == 0:
            yield f"{name} runs as root"
        seccomp = context.get("seccompProfile", pod_context.get("seccompProfile", {}))
        if seccomp.get("type") not in {"RuntimeDefault", "Localhost"}:
            yield f"{name} has no seccomp profile"
        capabilities = context.get("capabilities", {})
        if "ALL" not in capabilities.get("drop", ()):
            yield f"{name} keeps capabilities"
        if set(capabilities.get("add", ())) - {"NET_BIND_SERVICE"}:
            yield f"{name} adds capabilities"


def _list_containers(spec: Manifest) -> list[Manifest]:
    kinds = ("initContainers", "containers", "ephemeralContainers")
    return [container for kind in kinds for container in spec.get(kind, ())]


def _find_context_violations(owner: str, context: Manifest) -> Iterator[str]:
    if context.get("seccompProfile", {}).get("type") == "Unconfined":
        yield f"{owner} is without seccomp"
    if context.get("appArmorProfile", {}).get("type") == "Unconfined":
        yield f"{owner} is without AppArmor"
    selinux = context.get("seLinuxOptions", {})
    if selinux.get("type", "") not in _SELINUX_TYPES or selinux.get("user") or selinux.get("role"):
        yield f"{owner} sets SELinux options"
