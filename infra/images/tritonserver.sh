#!/bin/sh
# Starts the Triton server that nvidia-pytriton carries; arguments are tritonserver's own.
set -eu
site="$TRITON_HOME/venv/lib/python3.11/site-packages"
export LD_LIBRARY_PATH="$TRITON_HOME/libpython:$site/nvidia_pytriton.libs"
# The python backend's stub ignores PYTHONPATH; it takes the environment of the first python3 that PATH names.
export PATH="$TRITON_HOME/venv/bin:$PATH"
exec "$site/pytriton/tritonserver/bin/tritonserver" --backend-directory="$TRITON_HOME/backends" "$@"
