"""Ends the processes that this one started when this one is killed.

vLLM's engine runs in processes of its own, which outlive a `kill -9` of the process that asked for them and keep the
GPU's memory: the run that should go on would find no room. Run as a script, this file is the reaper: it waits until its
standard input ends, which the system sees to whatever way its parent dies, and then ends what is left.
"""

import subprocess
import sys

import psutil


def end_children_with_us() -> "subprocess.Popen[bytes]":
    """Starts the reaper of all processes that are below this one now; it lives as long as what is returned."""
    children = [f"{child.pid}:{child.create_time()}" for child in psutil.Process().children(recursive=True)]
    # In a session of its own: what kills our process group does not reach it.
    return subprocess.Popen([sys.executable, __file__, *children], stdin=subprocess.PIPE, start_new_session=True)


def _reap(children: list[str]) -> None:
    sys.stdin.read()
    for child in children:
        pid, started = child.split(":")
        try:
            process = psutil.Process(int(pid))
            if process.create_time() == float(started):  # else the number belongs to another process by now
                process.kill()
        except psutil.NoSuchProcess:
            pass


if __name__ == "__main__":
    _reap(sys.argv[1:])
