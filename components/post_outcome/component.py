"""Tells a webhook how a run ended."""

from kfp import dsl

from components.images import MAIN_IMAGE


@dsl.component(base_image=MAIN_IMAGE, install_kfp_package=False)
def post_outcome(pipeline: str, status: dsl.PipelineTaskFinalStatus) -> None:
    """Posts the run's outcome as JSON to the webhook whose address a secret holds; never cached.

    Args:
        pipeline: the pipeline's name; to the backend the run is a task `exit-handler-1`.
        status: how the run ended, and why.
    """
    from components.run_outcome import post_run_outcome

    post_run_outcome(
        state=status.state,
        run=status.pipeline_job_resource_name,
        pipeline=pipeline,
        error=status.error_message or "",
    )
