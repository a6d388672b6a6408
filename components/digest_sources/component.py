"""Says in which state the user's data is."""

from kfp import dsl

from components.images import MAIN_IMAGE


@dsl.component(base_image=MAIN_IMAGE, install_kfp_package=False)
def digest_sources(config: str) -> str:
    """Digests the catalogue and the log as they are now; never cached, or a schedule would see no new data.

    Args:
        config: JSON of `contracts.ingestion.config.DataConfig`.

    Returns:
        The digest; the same as long as the files are the same.
    """
    from contracts.ingestion.config import DataConfig
    from contracts.ingestion.sources.list_files import digest_data

    return str(digest_data(DataConfig.model_validate_json(config)))
