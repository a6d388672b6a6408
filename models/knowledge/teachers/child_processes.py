"""Ends the processes that this one started when this one is killed.

vLLM's engine runs in processes of its own, which outlive a `kill -9` of the process that asked for them and
keep the GPU's memory: the run that should go on would find no room. Run as a script, this file is the reaper:
it waits until its standard input ends, which the system sees to whatever way its parent dies, and then ends
what is left.
"""

import subprocess
import sys

import psutil


def kill_children_with_parent() -> "subprocess.Popen[bytes]":
    """Starts the reaper of all processes below this one; it lives as long as what is returned."""
    child_ids = [f"{child.pid}:{child.create_time()}" for child in psutil.Process().children(recursive=True)]
    # In a session of its own: what kills our process group does not reach it.
    return subprocess.Popen(
        [sys.executable, __file__, *child_ids], stdin=subprocess.PIPE, start_new_session=True
    )


def _kill_orphans(child_ids: list[str]) -> None:
    sys.stdin.read()
    for child_id in child_ids:
        pid, create_time = child_id.split(":")
        try:
            process = psutil.Process(int(pid))
            if process.create_time() == float(
                create_time
            ):  # else the number belongs to another process by now
                process.kill()
        except psutil.NoSuchProcess:
            pass


if __name__ == "__main__":
    _kill_orphans(sys.argv[1:])
