"""Deployed rankers as the gateway needs them: spec and encoder, by model name."""

import os
import shutil
from pathlib import Path
from typing import NamedTuple, Self

from contracts.artifacts import read_lineage, verify_artifact
from contracts.digests import LINEAGE_FILE
from contracts.errors import UserError
from models.ranker.inputs.item_encoder import ItemEncoder
from models.ranker.inputs.ranker_spec import RankerSpec


class DeployedRanker(NamedTuple):
    """What is needed to encode a request for a ranker."""

    spec: RankerSpec
    encoder: ItemEncoder

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Reads a deployed ranker."""
        spec = RankerSpec.read(folder)
        return cls(spec, ItemEncoder.load_artifact(folder, spec))

    @property
    def output_names(self) -> tuple[str, ...]:
        """Names of the graph's outputs."""
        return tuple(tensor.name for tensor in self.spec.outputs)

    @property
    def vector_dim(self) -> int:
        """D of the item vectors that it takes; 0 where it takes none."""
        return self.spec.embedding_dim if self.spec.features.reads_vectors else 0

    @property
    def reads_page_vector(self) -> bool:
        """Whether it takes what the page is about, as a vector of its space."""
        return "context_vectors" in self.spec.input_names


def name_feature_service(spec: RankerSpec) -> str:
    """Feature service of a ranker version: versions may differ in what they read."""
    return f"{spec.feature_service}_{spec.version[:8]}"


def install_ranker(artifact: Path, rankers: Path) -> RankerSpec:
    """Copies a ranker artifact to where serving and later comparisons find it: it outlives the pipeline's
    folders.

    Raises:
        UserError: the artifact is not a ranker, is no longer what was evaluated, or reads what serving does
            not have.
    """
    spec = RankerSpec.read(artifact)
    if spec.features.statistics:
        raise UserError(
            f"ranker {spec.model_name} reads candidate_statistics, which the gateway does not have; train it "
            "with ranker.features.statistics=false"
        )
    installed_folder = rankers / spec.model_name
    lineage = verify_artifact(artifact)
    is_installed = (installed_folder / LINEAGE_FILE).is_file()
    if is_installed and read_lineage(installed_folder).digest == lineage.digest:
        return spec  # it may be the champion itself: what is in use is not taken away, not even for a moment
    temporary_folder = rankers / f".{spec.model_name}.{os.getpid()}.tmp"
    shutil.rmtree(temporary_folder, ignore_errors=True)
    shutil.copytree(artifact, temporary_folder)
    shutil.rmtree(installed_folder, ignore_errors=True)
    os.replace(temporary_folder, installed_folder)
    return spec
