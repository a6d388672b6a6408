"""The trained behaviour model as an artifact: weights and all that is needed to use them."""

from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import torch
from pydantic import AwareDatetime
from safetensors.torch import load_file, save_file

from contracts.artifacts import write_json
from contracts.config import Config
from contracts.digests import digest_file
from contracts.errors import UserError
from models.behavior.catalogue import Catalogue
from models.behavior.config import DecodingConfig
from models.behavior.decode import Decoder
from models.behavior.network import Denoiser, NetworkSpec
from models.behavior.similarity import Neighbors
from models.behavior.tensors import ItemTensors, code_log_priors

_WEIGHTS = "weights.safetensors"
_CARD = "model.json"


class ModelCard(Config):
    """What `model.json` says of the weights."""

    version: str
    """Name of these weights: `behavior-` and a digest of them."""
    space: str
    """Embedding space that the model reads; another is refused."""
    network: NetworkSpec
    """How to rebuild the network."""
    trained_until: AwareDatetime
    """Nothing at or after this moment entered training."""
    similarity_weight: float
    """Weight of the knowledge-similarity term, fitted on held-out users."""


class BehaviorModel(NamedTuple):
    """A trained model."""

    card: ModelCard
    denoiser: Denoiser


def save_model(
    folder: Path, denoiser: Denoiser, *, space: str, trained_until: datetime, similarity_weight: float
) -> ModelCard:
    """Writes weights and card; returns the card."""
    save_file({name: tensor.contiguous() for name, tensor in denoiser.state_dict().items()}, folder / _WEIGHTS)
    card = ModelCard(
        version=f"behavior-{digest_file(folder / _WEIGHTS)[:8]}",
        space=space,
        network=denoiser.spec,
        trained_until=trained_until,
        similarity_weight=similarity_weight,
    )
    write_json(folder / _CARD, card.model_dump(mode="json"))
    return card


def load_model(folder: Path, catalogue: Catalogue) -> BehaviorModel:
    """Reads a model for use with a catalogue.

    Raises:
        UserError: there is no model, or it was trained in another embedding space.
    """
    path = folder / _CARD
    if not path.is_file():
        raise UserError(f"{folder} holds no behaviour model (no {_CARD}); run train_behavior_model first")
    card = ModelCard.model_validate_json(path.read_text(encoding="utf-8"))
    if card.space != catalogue.space:
        raise UserError(
            f"behaviour model {card.version} reads embedding space '{card.space}', the item embeddings are of space "
            f"'{catalogue.space}'; train the behaviour model again on these embeddings or give those it was trained on"
        )
    denoiser = Denoiser(card.network)
    denoiser.load_state_dict(load_file(folder / _WEIGHTS))
    return BehaviorModel(card, denoiser)


def item_tensors(denoiser: Denoiser, catalogue: Catalogue, log_prior_n: torch.Tensor) -> ItemTensors:
    """The catalogue as the network reads it."""
    codes_nl = denoiser.known_codes(torch.from_numpy(catalogue.codes))
    with torch.no_grad():
        components_np = denoiser.project(torch.from_numpy(catalogue.vectors))
    priors = code_log_priors(log_prior_n, codes_nl, denoiser.spec.code_sizes)
    return ItemTensors(codes_nl, components_np, log_prior_n, priors)


def make_decoder(
    denoiser: Denoiser,
    catalogue: Catalogue,
    log_prior_n: torch.Tensor,
    config: DecodingConfig,
    *,
    neighbors: Neighbors,
    similarity_weight: float = 0.0,
) -> Decoder:
    """The model ready to infer at a moment.

    Args:
        denoiser: the network.
        catalogue: what may be inferred.
        log_prior_n: log P(item) at that moment.
        config: the settings.
        neighbors: nearest items in the catalogue.
        similarity_weight: of the knowledge-similarity term.
    """
    return Decoder(
        denoiser=denoiser,
        items=item_tensors(denoiser, catalogue, log_prior_n),
        num_slots=config.num_slots,
        num_steps=config.num_steps,
        neighbors=neighbors,
        similarity_weight=similarity_weight,
        popularity_weight=config.popularity_weight,
    )
