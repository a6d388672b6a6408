"""Turns what was served into data to learn from."""

from kfp import dsl

from components.images import MAIN_IMAGE


@dsl.component(base_image=MAIN_IMAGE, install_kfp_package=False)
def collect_log(
    config: str,
    event_log_config: str,
    workspace: str,
    metrics: dsl.Output[dsl.Metrics],
) -> str:
    """Brings the workspace's served log up to date with the gateway's log; never cached.

    Args:
        config: JSON of `serving.config.ServedLogConfig`.
        event_log_config: JSON of `serving.config.EventLogConfig`: the log's files, or the sink's streams.
        workspace: folder that outlives the step; event log and served log lie in it.
        metrics: rows by type, days, late rows, duplicates, bots, returns, degraded answers.

    Returns:
        State of the served log (a digest); empty where there is nothing to learn from, or it is not wanted.
    """
    from pathlib import Path

    from components.step_support import log_values
    from serving.config import EventLogConfig, ServedLogConfig
    from serving.served_log.collect_log import refresh_served_log

    served = refresh_served_log(
        ServedLogConfig.model_validate_json(config),
        EventLogConfig.model_validate_json(event_log_config),
        workspace=Path(workspace),
    )
    log_values(served.counts, metrics)
    return served.digest
