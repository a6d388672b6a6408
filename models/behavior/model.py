"""The trained behaviour model as an artifact: weights and all that is needed to use them."""

from pathlib import Path
from typing import NamedTuple

import torch
from pydantic import AwareDatetime
from safetensors.torch import load_file, save_file

from contracts.artifacts import write_json
from contracts.config import Config
from contracts.digests import digest_file, digest_value
from contracts.errors import UserError
from models.behavior.catalogue import Catalogue
from models.behavior.config import DecodingConfig, KindsConfig
from models.behavior.cooccurrence import FILE as COOCCURRENCE_FILE
from models.behavior.cooccurrence import load_cooccurrence, save_cooccurrence
from models.behavior.decode import Decoder
from models.behavior.kinds import KINDS_FILE, WEIGHTS_FILE, Kinds, load_kinds, save_kinds
from models.behavior.mixture import Weights
from models.behavior.neighbors import Everything, Neighbors, association_table
from models.behavior.network import Denoiser, NetworkSpec
from models.behavior.shortlist import find_associations
from models.behavior.tensors import ItemTensors, code_log_priors

_WEIGHTS = "weights.safetensors"
_CARD = "model.json"
_FOUND_NEIGHBORS = 100
"""Associated items kept per item where they are looked up in an index; bounds memory."""


class ModelCard(Config):
    """What `model.json` says of the weights."""

    version: str = ""
    """Name of these weights: `behavior-` and a digest of them; given when the model is saved."""
    space: str
    """Embedding space that the model reads; another is refused."""
    network: NetworkSpec
    """How to rebuild the network."""
    trained_until: AwareDatetime
    """Nothing at or after this moment entered training."""
    weights: Weights = Weights()
    """Of the shipped score's parts, fitted on held-out users."""
    model_weights: Weights = Weights()
    """The same without co-occurrence: the denoiser alone."""
    kinds: KindsConfig = KindsConfig()
    """How much kinds count in the shipped score."""


class BehaviorModel(NamedTuple):
    """A trained model, for one catalogue."""

    card: ModelCard
    denoiser: Denoiser
    associations: Everything | Neighbors
    cooccurrences: Neighbors
    kinds: Kinds | None = None
    """None: it knows no kinds."""


def save_model(folder: Path, model: BehaviorModel, catalogue: Catalogue) -> BehaviorModel:
    """Writes weights, co-occurrences and card; returns the model with its version."""
    state = model.denoiser.state_dict()
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, folder / _WEIGHTS)
    save_cooccurrence(folder, model.cooccurrences, catalogue.item_ids)
    content = [model.card.weights.values, model.card.model_weights.values, model.card.kinds.model_dump()]
    digests = [digest_file(folder / _WEIGHTS), digest_file(folder / COOCCURRENCE_FILE), digest_value(content)]
    if model.kinds is not None:
        save_kinds(folder, model.kinds, catalogue.item_ids)
        digests += [digest_file(folder / name) for name in (KINDS_FILE, WEIGHTS_FILE)]
    card = model.card.model_copy(update={"version": f"behavior-{digest_value(digests)[:8]}"})
    write_json(folder / _CARD, card.model_dump(mode="json"))
    return model._replace(card=card)


def load_model(folder: Path, catalogue: Catalogue, config: DecodingConfig) -> BehaviorModel:
    """Reads a model for use with a catalogue.

    Args:
        folder: artifact of `train_behavior_model`.
        catalogue: the items.
        config: how much of its tables is kept.

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
    associations = associate(denoiser, catalogue, config)
    cooccurrences, kinds = load_cooccurrence(folder, catalogue), load_kinds(folder, catalogue)
    return BehaviorModel(card, denoiser, associations, cooccurrences, kinds)


@torch.no_grad()
def associate(denoiser: Denoiser, catalogue: Catalogue, config: DecodingConfig) -> Everything | Neighbors:
    """What each item of the catalogue calls for, by the network's associations."""
    vectors_nv, sharpness = torch.from_numpy(catalogue.vectors), float(denoiser.associations.sharpness)
    if len(catalogue) > config.max_exact_items:
        codes_nl = denoiser.known_codes(torch.from_numpy(catalogue.codes))
        return find_associations(vectors_nv, codes_nl, sharpness, min(config.num_neighbors, _FOUND_NEIGHBORS))
    return association_table(vectors_nv, sharpness, count=config.num_neighbors, max_exact=config.max_associated_exactly)


def item_tensors(denoiser: Denoiser, catalogue: Catalogue, log_prior_n: torch.Tensor) -> ItemTensors:
    """The catalogue as the network reads it."""
    codes_nl = denoiser.known_codes(torch.from_numpy(catalogue.codes))
    with torch.no_grad():
        components_np = denoiser.project(torch.from_numpy(catalogue.vectors))
    priors = code_log_priors(log_prior_n, codes_nl, denoiser.spec.code_sizes)
    return ItemTensors(codes_nl, components_np, torch.from_numpy(catalogue.vectors), log_prior_n, priors)


def make_decoder(
    model: BehaviorModel,
    catalogue: Catalogue,
    log_prior_n: torch.Tensor,
    config: DecodingConfig,
    *,
    alone: bool = False,
) -> Decoder:
    """The model ready to infer at a moment.

    Args:
        model: the model, loaded for this catalogue.
        catalogue: what may be inferred.
        log_prior_n: log P(item) at that moment.
        config: the settings.
        alone: the denoiser without co-occurrence and kinds, which the shipped score has.
    """
    return Decoder(
        denoiser=model.denoiser,
        items=item_tensors(model.denoiser, catalogue, log_prior_n),
        num_slots=config.num_slots,
        num_steps=config.num_steps,
        associations=model.associations,
        cooccurrences=model.cooccurrences,
        weights=model.card.model_weights if alone else model.card.weights,
        popularity_weight=config.popularity_weight,
        kinds=None if alone else model.kinds,
        kinds_config=model.card.kinds,
    )
