#!/usr/bin/env bash
# `make demo`: set-up from nothing, then the main job on the embedded shop. Arguments go to `reaseq demo`.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/setup.sh main
scripts/setup.sh triton
exec .venv/bin/reaseq demo --setup-s "$SECONDS" "$@"
