#!/usr/bin/env bash
# Makes one environment from its lock file: scripts/setup.sh main|dev|ray|triton|vllm|vllm-cpu|ranker-peers|fuzz|docs
#
#   main      .venv         all that the pipelines, the gateway and the command line need
#   dev       .venv         main plus tests, linter and type checker
#   ray       .venv-ray     main plus Ray, for features.engine = ray
#   triton    .venv-triton  the local Triton server (needs numpy < 2, so it stands alone)
#   vllm      .venv-vllm    teachers on a GPU
#   vllm-cpu  .venv-vllm    the same on the CPU, for the tests of the vLLM teachers alone
#   ranker-peers .venv-ranker-peers  other libraries' rankers, for `make bench-ranker` alone
#   fuzz      .venv-fuzz    Schemathesis, for `make bench-serving` alone
#   docs      .venv-docs    the documentation site, for `make site` alone
#
# Safe to repeat: a stamp holds the digest of what was installed, and a second call returns at once.
# Needs python3.11 and whatever package registry your pip uses. docs/environments.md has the details.
set -euo pipefail
cd "$(dirname "$0")/.."

UV_VERSION="0.13.8"
environment="${1:-}"
case "$environment" in
  main | dev) venv=".venv" ;;
  ray) venv=".venv-ray" ;;
  triton) venv=".venv-triton" ;;
  vllm | vllm-cpu) venv=".venv-vllm" ;;
  ranker-peers | fuzz | docs) venv=".venv-$environment" ;;
  *) echo "usage: scripts/setup.sh main|dev|ray|triton|vllm|vllm-cpu|ranker-peers|fuzz|docs (got '${environment}')" >&2; exit 2 ;;
esac
lock="requirements/$environment.lock"
stamp="$venv/.installed-$environment"

say() { echo "[setup $environment, ${SECONDS} s] $*"; }

find_python() { # The interpreter that makes the environment: $PYTHON, python3.11, or a python3 that is 3.11.
  local candidate
  for candidate in ${PYTHON:+"$PYTHON"} python3.11 python3; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2> /dev/null; then
      echo "$candidate"; return
    fi
  done
  echo "setup.sh: Python 3.11 is needed and was not found; install it, or name it: PYTHON=/path/to/python3.11 $0" >&2
  exit 2
}

python="$(find_python)"
wanted="$("$python" -c '
import hashlib, pathlib, sys
print(hashlib.sha256(b"".join(pathlib.Path(name).read_bytes() for name in sys.argv[1:])).hexdigest())
' "$lock" pyproject.toml scripts/setup.sh)"
if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ]; then
  exit 0
fi

# The two vLLM environments share a folder, but not their packages.
if ! "$venv/bin/python" -m pip --version > /dev/null 2>&1 || [ "$venv" = .venv-vllm ] && [ ! -f "$stamp" ]; then
  say "creating $venv"
  "$python" -m venv --clear "$venv"
fi
if [ "$("$venv/bin/uv" --version 2> /dev/null | cut -d' ' -f2)" != "$UV_VERSION" ]; then
  say "installing uv $UV_VERSION"
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "uv==$UV_VERSION"
fi

# uv does not read pip's configuration. Hand over where pip finds wheels and its registry, unless uv was told its own.
pip_option() { "$venv/bin/python" -m pip config get "global.$1" 2> /dev/null || true; }
if [ "$environment" != vllm ]; then # A local CPU wheel of torch must not reach a GPU environment.
  find_links="${UV_FIND_LINKS-${PIP_FIND_LINKS-$(pip_option find-links)}}"
  if [ -n "$find_links" ]; then export UV_FIND_LINKS="$find_links"; fi
fi
index="${UV_DEFAULT_INDEX-${PIP_INDEX_URL-$(pip_option index-url)}}"
if [ -n "$index" ]; then export UV_DEFAULT_INDEX="$index"; fi

# Packages that must stay away though others ask for them.
excludes=()
if [ -f "requirements/$environment.excludes" ]; then excludes=(--excludes "requirements/$environment.excludes"); fi
# The lock was made against what a package asks for: install it as it stands.
if [ -f "requirements/$environment.overrides" ]; then excludes+=(--no-deps); fi

say "installing $(grep -c '^[a-z0-9].*==' "$lock") packages of $lock"
"$venv/bin/uv" pip install --quiet --python "$venv/bin/python" "${excludes[@]}" --requirement "$lock"
if [[ "$environment" =~ ^(main|dev|ray|vllm|vllm-cpu)$ ]]; then
  say "installing reaseq itself, editable"
  "$venv/bin/uv" pip install --quiet --python "$venv/bin/python" --no-deps --editable .
fi
echo "$wanted" > "$stamp"
say "done: $venv"
