"""Puts a pipeline under an exit handler, which tells a webhook how the run ended."""

import inspect
from typing import Any

from kfp import dsl, kubernetes

from components.post_outcome.component import post_outcome
from components.run_outcome import WEBHOOK_VARIABLE
from pipelines.step_policy import Webhook
from pipelines.step_settings import disable_caching


def add_exit_handler(pipeline: Any, webhook: Webhook) -> Any:
    """The same pipeline, after which `post_outcome` runs, however it ends.

    It hands out no artifacts: those of a pipeline below an exit handler end there.

    Args:
        pipeline: a pipeline of ours.
        webhook: the secret that holds the address.
    """
    signature = inspect.signature(pipeline.pipeline_func)

    def run_and_tell(*values: Any) -> None:
        exit_task = post_outcome(pipeline=pipeline.name)
        disable_caching(exit_task)
        kubernetes.use_secret_as_env(
            exit_task,
            secret_name=webhook.secret,
            secret_key_to_env={webhook.key: WEBHOOK_VARIABLE},
            optional=True,
        )
        with dsl.ExitHandler(exit_task, name="run"):
            pipeline(**dict(zip(signature.parameters, values, strict=True)))

    run_and_tell.__signature__ = signature.replace(return_annotation=None)  # type: ignore[attr-defined]
    run_and_tell.__doc__ = pipeline.pipeline_func.__doc__
    return dsl.pipeline(name=pipeline.name, description=pipeline.description)(run_and_tell)
