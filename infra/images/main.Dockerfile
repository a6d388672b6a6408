# The environment `main`: pipeline steps, training among them, and the command line.
#
#   docker build -f infra/images/main.Dockerfile -t reaseq-main:0.1.0 .
#   --build-arg BASE=python:3.11.13-slim-bookworm@sha256:...   pins the base by digest
#   --build-arg UV_TORCH_BACKEND=cpu                           smaller: torch without CUDA
#   --build-arg LOCK=ray                                       with Ray, for features.engine = ray
#   --build-arg UV_DEFAULT_INDEX=...                           your registry; its credentials: --secret id=netrc,src=...
#   --build-arg SSL_CERT_FILE=...                              a certificate bundle in the base, where a private CA signs
ARG BASE=python:3.11.13-slim-bookworm

FROM ${BASE} AS build
ARG UV_VERSION=0.13.8
ARG CYCLONEDX_VERSION=7.5.0
ARG LOCK=main
# Seen by uv while building only; they leave no trace in the image.
ARG UV_DEFAULT_INDEX
ARG SSL_CERT_FILE
ARG UV_FIND_LINKS
ARG UV_TORCH_BACKEND
RUN --mount=type=secret,id=netrc,target=/root/.netrc \
    python3.11 -m venv /opt/build \
    && /opt/build/bin/pip install --no-cache-dir --disable-pip-version-check "uv==${UV_VERSION}" \
    && python3.11 -m venv --without-pip /opt/venv
# The lock before the code: a change of code does not install two gigabytes again.
COPY requirements/${LOCK}.lock /opt/main.lock
COPY requirements/torch-cuda.lock /opt/torch-cuda.lock
# Every hash of the lock is checked. Where PyPI's torch is taken, its own and those of its CUDA libraries are, too, and
# nothing without one is let in; of a torch for another accelerator we know none.
RUN --mount=type=secret,id=netrc,target=/root/.netrc \
    if [ -z "${UV_TORCH_BACKEND}${UV_FIND_LINKS}" ]; then set -- --constraint /opt/torch-cuda.lock --require-hashes; fi \
    && /opt/build/bin/uv pip install --python /opt/venv/bin/python --no-cache --compile-bytecode -r /opt/main.lock "$@"
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
LABEL org.opencontainers.image.title="reaseq-main" org.opencontainers.image.licenses="Apache-2.0" \
    org.opencontainers.image.revision="${COMMIT}"
COPY --from=build /opt/venv /opt/venv
COPY --from=build /opt/reaseq /opt/reaseq
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 OMP_WAIT_POLICY=PASSIVE HOME=/tmp BENTOML_DO_NOT_TRACK=True DO_NOT_TRACK=1
WORKDIR /opt/reaseq
USER 10001:10001
# No HEALTHCHECK: most containers of this image are pipeline steps; they are watched by Kubeflow.
CMD ["reaseq", "--help"]
