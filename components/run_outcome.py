"""What a webhook is told of a run that has ended."""

import json
import os
import sys
import urllib.request
from http.client import HTTPException
from typing import Final

WEBHOOK_VARIABLE: Final = "REASEQ_WEBHOOK"
"""Holds the webhook's address. It comes from a secret, since such an address often is one itself."""
_TIMEOUT_S: Final = 30.0
_MAX_ERROR_LENGTH: Final = 2000


def post_run_outcome(*, state: str, run: str, pipeline: str, error: str) -> bool:
    """Posts the outcome. A webhook that fails is told of in the log, and fails no run.

    Args:
        state: SUCCEEDED, FAILED or CANCELED; backends that keep their tasks in MLMD say COMPLETE.
        run: the run's name on the backend.
        pipeline: the pipeline's name.
        error: why it failed; empty where it did not, or where the backend does not say.

    Returns:
        Whether it was taken.
    """
    url = os.environ.get(WEBHOOK_VARIABLE, "").strip()
    if not url.startswith(("http://", "https://")):
        print(f"no webhook: {WEBHOOK_VARIABLE} holds no http address", file=sys.stderr)
        return False
    state = "SUCCEEDED" if state == "COMPLETE" else state
    error = error[:_MAX_ERROR_LENGTH]
    text = f"{pipeline} {state}{f': {error}' if error else ''}"
    # `text` is what chat services show; the rest is for programs.
    outcome = {"text": text, "pipeline": pipeline, "run": run, "state": state, "error": error}
    request = urllib.request.Request(  # noqa: S310
        url, json.dumps(outcome).encode(), {"content-type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S):  # noqa: S310
            print(text)
            return True
    except (OSError, ValueError, HTTPException) as failure:
        # The address may be a secret, and an exception may quote it.
        print(f"the webhook was not reached ({type(failure).__name__})", file=sys.stderr)
        return False
