# The environment `serve`: the gateway. It holds no torch, and nothing that trains, asks teachers or draws reports.
#
#   docker build -f infra/images/serve.Dockerfile -t reaseq-serve:0.1.0 .
#   --build-arg BASE=...@sha256:... and UV_DEFAULT_INDEX as in main.Dockerfile
ARG BASE=python:3.11.13-slim-bookworm

FROM ${BASE} AS build
ARG UV_VERSION=0.13.8
ARG CYCLONEDX_VERSION=7.5.0
ARG UV_DEFAULT_INDEX
ARG SSL_CERT_FILE
COPY requirements/serve.lock /opt/serve.lock
# uv stays in an environment of its own: the image's has no installer. The lock is whole but for what
# requirements/serve.excludes leaves out, so nothing is resolved.
RUN --mount=type=secret,id=netrc,target=/root/.netrc \
    python3.11 -m venv /opt/build \
    && /opt/build/bin/pip install --no-cache-dir --disable-pip-version-check "uv==${UV_VERSION}" \
    && python3.11 -m venv --without-pip /opt/venv \
    && /opt/build/bin/uv pip install --python /opt/venv/bin/python --no-cache --compile-bytecode --no-deps --require-hashes \
        -r /opt/serve.lock
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
LABEL org.opencontainers.image.title="reaseq-serve" org.opencontainers.image.licenses="Apache-2.0" \
    org.opencontainers.image.revision="${COMMIT}"
COPY --from=build /opt/venv /opt/venv
COPY --from=build /opt/reaseq /opt/reaseq
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 OMP_WAIT_POLICY=PASSIVE HOME=/tmp BENTOML_HOME=/tmp/bentoml \
    BENTOML_DO_NOT_TRACK=True DO_NOT_TRACK=1
WORKDIR /opt/reaseq
USER 10001:10001
EXPOSE 3000
HEALTHCHECK --interval=10s --timeout=3s --start-period=180s \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:3000/livez', timeout=2)"]
CMD ["bentoml", "serve", "serving.gateway.gateway_app:Gateway", "--host", "0.0.0.0", "--port", "3000"]
