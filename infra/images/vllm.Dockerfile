# The environment `vllm`: teachers on a GPU, as a server or inside the distillation step.
#
#   docker build -f infra/images/vllm.Dockerfile -t reaseq-vllm:0.1.0 .
#   --build-arg BASE=...@sha256:... and UV_DEFAULT_INDEX as in main.Dockerfile
# torch's wheels carry CUDA; the node needs the driver and NVIDIA's container runtime.
ARG BASE=python:3.11.13-slim-bookworm

FROM ${BASE} AS build
ARG UV_VERSION=0.13.8
ARG CYCLONEDX_VERSION=7.5.0
ARG UV_DEFAULT_INDEX
ARG SSL_CERT_FILE
RUN --mount=type=secret,id=netrc,target=/root/.netrc \
    python3.11 -m venv /opt/build \
    && /opt/build/bin/pip install --no-cache-dir --disable-pip-version-check "uv==${UV_VERSION}" \
    && python3.11 -m venv --without-pip /opt/venv
COPY requirements/vllm.lock /opt/vllm.lock
RUN --mount=type=secret,id=netrc,target=/root/.netrc \
    /opt/build/bin/uv pip install --python /opt/venv/bin/python --no-cache --compile-bytecode --require-hashes \
    -r /opt/vllm.lock
WORKDIR /opt/reaseq
# Readable to user 10001, whatever umask the checkout was made under.
COPY --chmod=755 . .
RUN --mount=type=secret,id=netrc,target=/root/.netrc \
    /opt/build/bin/uv pip install --python /opt/venv/bin/python --no-cache --no-deps --editable . \
    && /opt/venv/bin/python -m compileall -q .
# What is in it, for scanners: /opt/venv/sbom.cdx.json.
RUN --mount=type=secret,id=netrc,target=/root/.netrc \
    /opt/build/bin/pip install --no-cache-dir --disable-pip-version-check "cyclonedx-bom==${CYCLONEDX_VERSION}" \
    && /opt/build/bin/cyclonedx-py environment --output-format JSON --output-file /opt/venv/sbom.cdx.json /opt/venv/bin/python

FROM ${BASE}
ARG COMMIT=unknown
LABEL org.opencontainers.image.title="reaseq-vllm" org.opencontainers.image.licenses="Apache-2.0" \
    org.opencontainers.image.revision="${COMMIT}"
# Kernels are compiled at the first start. The base pins the distribution; its updates are wanted.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc g++ libnuma1 \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build /opt/venv /opt/venv
COPY --from=build /opt/reaseq /opt/reaseq
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 HOME=/tmp VLLM_NO_USAGE_STATS=1 DO_NOT_TRACK=1
WORKDIR /opt/reaseq
USER 10001:10001
EXPOSE 8000
# No HEALTHCHECK: the same image runs distillation steps; the server's probes stand in its Deployment.
CMD ["python", "-m", "vllm.entrypoints.openai.api_server", "--help"]
