#!/usr/bin/env bash
# Builds images, with whichever engine is there: scripts/build_images.sh docker|podman|buildah [serve|main|triton|vllm ...]
#
#   BASE=python:3.11.13-slim-bookworm@sha256:...  the base, pinned by its digest
#   BASE=debootstrap      a Debian base made here, where no image registry is in reach (root, debootstrap)
#   UV_DEFAULT_INDEX, UV_TORCH_BACKEND, SSL_CERT_FILE   are handed to the build; see infra/images/main.Dockerfile
#   WHEELS=folder         wheels of your own, such as torch for your accelerator (podman, buildah)
#   REGISTRY=registry.example/team                goes before the names; then push, and pin the digests
#
# Prints name, size in MB and seconds of each. An image bears the commit; a changed checkout is said so.
set -euo pipefail
cd "$(dirname "$0")/.."

engine="${1:-}"; shift || true
case "$engine" in
  docker | podman | buildah) ;;
  *) echo "usage: scripts/build_images.sh docker|podman|buildah [serve|main|triton|vllm ...] (got '$engine')" >&2; exit 2 ;;
esac
version="$(sed -n 's/^VERSION = "\(.*\)"/\1/p' components/images.py)"
commit="$(git rev-parse HEAD)$([ -z "$(git status --porcelain)" ] || echo -changed)"

run() { # Without cgroups of its own, as in a container, an engine works in a private mount namespace.
  if [ "$engine" = buildah ]; then
    unshare --mount --propagation private bash -c 'umount /sys/fs/cgroup/unified 2> /dev/null; exec "$@"' _ "$@"
  else
    "$@"
  fi
}

options=(build)
if [ "$engine" = buildah ]; then
  options=(build --format docker --isolation chroot --network host --layers=false)
  # The machine's own certificates, where a proxy signs.
  if [ -d /etc/ssl/certs ]; then options+=(--volume /etc/ssl/certs:/etc/ssl/certs:ro); fi
fi

if [ "${BASE:-}" = debootstrap ]; then
  [ "$engine" = buildah ] || { echo "build_images.sh: BASE=debootstrap needs buildah" >&2; exit 2; }
  BASE="localhost/reaseq-base:bookworm"
  if ! run buildah inspect --type image "$BASE" > /dev/null 2>&1; then
    root="$(mktemp -d)"
    debootstrap --variant=minbase --include=python3,python3-venv,libpython3.11,ca-certificates bookworm "$root" > /dev/null
    rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/*
    container="$(run buildah from scratch)"
    run buildah add --quiet "$container" "$root" / > /dev/null
    run buildah commit --quiet --rm "$container" "$BASE" > /dev/null
    rm -rf "$root"
  fi
fi
if [ -n "${WHEELS:-}" ]; then
  options+=(--volume "$(realpath "$WHEELS"):/wheels:ro" --build-arg UV_FIND_LINKS=/wheels)
fi
for name in BASE UV_DEFAULT_INDEX UV_TORCH_BACKEND SSL_CERT_FILE; do
  if [ -n "${!name:-}" ]; then options+=(--build-arg "$name=${!name}"); fi
done

for image in "${@:-serve}"; do
  full_name="${REGISTRY:+$REGISTRY/}reaseq-$image:$version"
  started="$SECONDS"
  run "$engine" "${options[@]}" --build-arg "COMMIT=$commit" --file "infra/images/$image.Dockerfile" --tag "$full_name" . >&2
  if [ "$engine" = buildah ]; then
    bytes="$(run buildah images --json "$full_name" | python3 -c '
import json, re, sys
number, unit = re.fullmatch(r"([\d.]+)\s*(\w+)", json.load(sys.stdin)[0]["size"]).groups()
print(round(float(number) * {"KB": 1e3, "MB": 1e6, "GB": 1e9}[unit]))')"
  else
    bytes="$("$engine" image inspect --format '{{.Size}}' "$full_name")"
  fi
  echo "$full_name $((bytes / 1000000)) MB $((SECONDS - started)) s"
done
