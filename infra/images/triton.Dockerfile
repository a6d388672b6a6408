# The environment `triton`: the very server that runs locally and in the tests, python backend with ONNX Runtime, CPU.
# For GPUs and the onnxruntime backend the production overlay takes NVIDIA's image instead.
#
#   docker build -f infra/images/triton.Dockerfile -t reaseq-triton:0.1.0 .
#   --build-arg BASE=...@sha256:... and UV_DEFAULT_INDEX as in main.Dockerfile; a base needs bash and libpython3.11
ARG BASE=python:3.11.13-slim-bookworm

FROM ${BASE} AS build
ARG UV_VERSION=0.13.8
ARG CYCLONEDX_VERSION=7.5.0
ARG UV_DEFAULT_INDEX
ARG SSL_CERT_FILE
ARG UV_FIND_LINKS
COPY requirements/triton.lock /opt/triton.lock
RUN --mount=type=secret,id=netrc,target=/root/.netrc \
    python3.11 -m venv /opt/build \
    && /opt/build/bin/pip install --no-cache-dir --disable-pip-version-check "uv==${UV_VERSION}" \
    && python3.11 -m venv --without-pip /opt/venv \
    && /opt/build/bin/uv pip install --python /opt/venv/bin/python --no-cache --compile-bytecode --require-hashes \
        -r /opt/triton.lock
# The server comes inside a Python package. It wants the backend and the stub of this Python in one folder, the
# libraries that the wheel carries, and the libpython of this very interpreter: with another one the stub mixes two.
COPY --chmod=755 infra/images/tritonserver.sh /opt/triton/bin/tritonserver
RUN site="$(/opt/venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" \
    && mkdir -p /opt/triton/backends/python \
    && cp -r "$site"/pytriton/tritonserver/backends/python/. /opt/triton/backends/python/ \
    && cp "$site"/pytriton/tritonserver/python_backend_stubs/3.11/triton_python_backend_stub /opt/triton/backends/python/ \
    && ln -s /opt/venv /opt/triton/venv \
    && ln -s "$(/opt/venv/bin/python -c 'import sysconfig; print(sysconfig.get_config_var("LIBDIR"))')" /opt/triton/libpython \
    && chmod 755 /opt/triton/backends/python/triton_python_backend_stub
# What is in it, for scanners: /opt/venv/sbom.cdx.json.
RUN --mount=type=secret,id=netrc,target=/root/.netrc \
    /opt/build/bin/pip install --no-cache-dir --disable-pip-version-check "cyclonedx-bom==${CYCLONEDX_VERSION}" \
    && /opt/build/bin/cyclonedx-py environment --output-format JSON --output-file /opt/venv/sbom.cdx.json /opt/venv/bin/python

FROM ${BASE}
ARG COMMIT=unknown
LABEL org.opencontainers.image.title="reaseq-triton" org.opencontainers.image.licenses="Apache-2.0" \
    org.opencontainers.image.revision="${COMMIT}"
COPY --from=build /opt/venv /opt/venv
COPY --from=build /opt/triton /opt/triton
ENV PATH=/opt/triton/bin:/opt/venv/bin:$PATH TRITON_HOME=/opt/triton HOME=/tmp
USER 10001:10001
EXPOSE 8000 8001 8002
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/v2/health/ready', timeout=2)"]
CMD ["tritonserver", "--model-repository=/var/lib/reaseq/serving/models", "--model-control-mode=explicit"]
