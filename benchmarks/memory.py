"""Memory of a process."""

from pathlib import Path


def peak_kib() -> int:
    """Peak memory of this process since it began; `ru_maxrss` would start from that of the process that started it."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.partition("VmHWM:")[2].split()[0])
