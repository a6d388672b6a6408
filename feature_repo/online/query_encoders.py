"""Query encoders beside the online store: it holds a space's item vectors, and what places texts among them.

One folder a space, named after it. All rankers of a space share it, and those of a former space keep theirs.
"""

import os
import shutil
from pathlib import Path
from typing import Final

from contracts.digests import digest_folder
from contracts.embedding_aspects import QUERY_ENCODER_FOLDER

_ENCODERS: Final = "query_encoders"


def locate_query_encoder(store: Path, space: str) -> Path:
    """The folder of a space's query encoder, whether it is there or not."""
    return store / _ENCODERS / space


def install_query_encoder(features: Path, store: Path, space: str) -> bool:
    """Copies the query encoder of a features artifact into the store's folder; it appears whole.

    Returns:
        Whether the store has one of this space now.
    """
    source, target = features / QUERY_ENCODER_FOLDER, locate_query_encoder(store, space)
    if not source.is_dir():
        return target.is_dir()
    if target.is_dir() and digest_folder(target) == digest_folder(source):
        return True
    temporary_folder = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary_folder, ignore_errors=True)
    shutil.copytree(source, temporary_folder)
    # A gateway that has the former one loaded keeps its files open.
    shutil.rmtree(target, ignore_errors=True)
    os.replace(temporary_folder, target)
    return True
