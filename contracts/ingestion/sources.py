"""Digests of the user's files, so that caches know when they changed."""

from pathlib import Path

import fsspec

from contracts.digests import digest_file, digest_value
from contracts.ingestion.config import DataConfig
from contracts.ingestion.readers import source_files


def data_digest(config: DataConfig) -> str:
    """Digest of the content of local files, or of what a remote store says of its objects (etag, size, time).

    Raises:
        UserError: a source names no file.
    """
    files = [*source_files(config.items.uri), *source_files(config.events.uri)]
    return digest_value([_state(path) for path in files])


def _state(path: str) -> object:
    if "://" not in path:
        return digest_file(Path(path))
    fs, inner = fsspec.core.url_to_fs(path)
    info = fs.info(inner)
    return {key: str(info[key]) for key in ("name", "size", "ETag", "etag", "mtime", "LastModified") if key in info}
