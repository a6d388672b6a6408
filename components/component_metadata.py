"""A component's `metadata.yaml`: how far it may be relied on, and what it needs.

The form is that of Kubeflow's own components repository, so that a component can be taken over there.
"""

import re
from pathlib import Path
from typing import Final, Literal

from pydantic import AwareDatetime, Field, ValidationError

from contracts.config import Config
from contracts.config_text import read_yaml_file
from contracts.errors import UserError

METADATA_FILE: Final = "metadata.yaml"
PIPELINES: Final = "Pipelines"
_AT_LEAST: Final = r">=\d+\.\d+\.\d+"


class Dependency(Config):
    """Something that must be there, from a version on."""

    name: str = Field(min_length=1)
    version: str = Field(pattern=rf"^{_AT_LEAST}$")
    """`>=` and the oldest version that the tests ran with."""


class Dependencies(Config):
    """What a component needs beside its image."""

    kubeflow: tuple[Dependency, ...] = Field(min_length=1)
    external_services: tuple[Dependency, ...] = ()


class ComponentMetadata(Config):
    """Everything that `metadata.yaml` says."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    stability: Literal["alpha", "beta", "stable"]
    """`alpha`: ports may change without notice. `beta`: they are kept, and no cluster has run it for us yet.
    `stable`: they are kept, and clusters run it."""
    dependencies: Dependencies
    tags: tuple[str, ...] = Field(min_length=1)
    last_verified: AwareDatetime = Field(alias="lastVerified")
    """The last day on which its tests passed on the versions above."""

    @property
    def oldest_pipelines(self) -> tuple[int, int]:
        """First version of Kubeflow Pipelines whose backend runs the component as it is compiled."""
        (pipelines,) = (part for part in self.dependencies.kubeflow if part.name == PIPELINES)
        major, minor, _ = map(int, re.findall(r"\d+", pipelines.version))
        return major, minor


def read_metadata(folder: Path) -> ComponentMetadata:
    """Reads the metadata of the component in a folder.

    Raises:
        UserError: the file is missing, incomplete, or holds what the form does not know.
    """
    path = folder / METADATA_FILE
    try:
        return ComponentMetadata.model_validate(read_yaml_file(path).value)
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
        raise UserError(f"{path}: {faults}") from error
