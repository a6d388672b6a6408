"""The trained behavior model as an artifact: weights and all that is needed to use them."""

from pathlib import Path
from typing import NamedTuple

import torch
from pydantic import AwareDatetime
from safetensors.torch import load_file, save_file

from contracts.artifacts import write_json
from contracts.config import Config
from contracts.digests import digest_file, digest_value
from contracts.errors import UserError
from contracts.progress import report_summary
from models.behavior.config import DecodingConfig
from models.behavior.decoding.complement_votes import tabulate_complements
from models.behavior.decoding.cooccurrence import COOCCURRENCE_FILE, load_cooccurrence, save_cooccurrence
from models.behavior.decoding.shortlist_decoder import needs_shortlists, search_associations
from models.behavior.decoding.slot_decoder import SlotDecoder
from models.behavior.decoding.vote_tables import NeighborVoteTable, VoteTable, build_association_table
from models.behavior.network.denoiser import Denoiser, DenoiserSpec
from models.behavior.sequences.behavior_catalogue import BehaviorCatalogue
from models.behavior.sequences.sequence_tensors import ItemTensors, sum_code_log_priors
from models.behavior.training.score_weights import ScoreWeights

_WEIGHTS_FILE = "weights.safetensors"
_CARD_FILE = "model.json"


class BehaviorModelCard(Config):
    """What `model.json` says of the weights."""

    version: str = ""
    """Name of these weights: `behavior-` and a digest of them; given when the model is saved."""
    space: str
    """Embedding space that the model reads; another is refused."""
    network: DenoiserSpec
    """How to rebuild the network."""
    trained_until: AwareDatetime
    """Nothing at or after this moment entered training."""
    weights: ScoreWeights = ScoreWeights()
    """Of the shipped score's terms, fitted on held-out users."""
    model_weights: ScoreWeights = ScoreWeights()
    """The same without co-occurrence and complements: the denoiser alone."""


class BehaviorModel(NamedTuple):
    """A trained model, for one catalogue."""

    card: BehaviorModelCard
    denoiser: Denoiser
    associations: VoteTable
    cooccurrences: NeighborVoteTable
    complements: VoteTable | None = None
    """None where they do not count, or none is known."""


def save_model(folder: Path, model: BehaviorModel, catalogue: BehaviorCatalogue) -> BehaviorModel:
    """Writes weights, co-occurrences and card. Returns the model with its version."""
    state = {name: tensor.contiguous() for name, tensor in model.denoiser.state_dict().items()}
    save_file(state, folder / _WEIGHTS_FILE)
    save_cooccurrence(folder, model.cooccurrences, catalogue.item_ids)
    score_weights = [model.card.weights.values, model.card.model_weights.values]
    file_digests = [digest_file(folder / name) for name in (_WEIGHTS_FILE, COOCCURRENCE_FILE)]
    version = f"behavior-{digest_value([*file_digests, digest_value(score_weights)])[:8]}"
    card = model.card.model_copy(update={"version": version})
    write_json(folder / _CARD_FILE, card.model_dump(mode="json"))
    return model._replace(card=card)


def load_model(folder: Path, catalogue: BehaviorCatalogue) -> BehaviorModel:
    """Reads a model for use with a catalogue.

    Args:
        folder: artifact of `train_behavior_model`.
        catalogue: the items.

    Raises:
        UserError: there is no model, or it was trained in another embedding space.
    """
    card_path = folder / _CARD_FILE
    if not card_path.is_file():
        raise UserError(f"{folder} holds no behavior model (no {_CARD_FILE}); run train_behavior_model first")
    card = BehaviorModelCard.model_validate_json(card_path.read_text(encoding="utf-8"))
    if card.space != catalogue.space:
        raise UserError(
            f"behavior model {card.version} reads embedding space '{card.space}', the item embeddings are "
            f"of space '{catalogue.space}'; train the behavior model again on these embeddings or give those "
            "it was trained on"
        )
    denoiser = Denoiser(card.network)
    denoiser.load_state_dict(load_file(folder / _WEIGHTS_FILE))
    return BehaviorModel(
        card=card,
        denoiser=denoiser,
        associations=tabulate_associations(denoiser, catalogue),
        cooccurrences=load_cooccurrence(folder, catalogue),
        complements=find_complements(denoiser, catalogue, card.weights.complement),
    )


@torch.no_grad()
def tabulate_associations(denoiser: Denoiser, catalogue: BehaviorCatalogue) -> VoteTable:
    """Tabulates what each item of the catalogue calls for, by the network's associations."""
    vectors_ID, sharpness = torch.from_numpy(catalogue.vectors), float(denoiser.associations.sharpness)
    if needs_shortlists(len(catalogue)):
        codes_IL = denoiser.replace_unknown_codes(torch.from_numpy(catalogue.codes))
        return search_associations(vectors_ID, codes_IL, sharpness)
    return build_association_table(vectors_ID, sharpness)


def find_complements(denoiser: Denoiser, catalogue: BehaviorCatalogue, weight: float) -> VoteTable | None:
    """Tabulates what goes with each item, if it counts and anything is known."""
    if not weight:
        return None
    vectors = catalogue.read_complements()
    if vectors is None:
        report_summary(["behavior.complements.weight counts nothing: the knowledge names no complements"])
        return None
    return tabulate_complements(vectors, denoiser.replace_unknown_codes(torch.from_numpy(catalogue.codes)))


@torch.no_grad()
def make_item_tensors(
    denoiser: Denoiser, catalogue: BehaviorCatalogue, log_prior_I: torch.Tensor
) -> ItemTensors:
    """Turns the catalogue into what the network reads."""
    codes_IL = denoiser.replace_unknown_codes(torch.from_numpy(catalogue.codes))
    vectors_ID = torch.from_numpy(catalogue.vectors)
    code_log_priors = sum_code_log_priors(log_prior_I, codes_IL, denoiser.spec.code_sizes)
    components_IP = denoiser.project_vectors(vectors_ID)
    return ItemTensors(codes_IL, components_IP, vectors_ID, log_prior_I, code_log_priors)


def make_decoder(
    model: BehaviorModel,
    catalogue: BehaviorCatalogue,
    log_prior_I: torch.Tensor,
    config: DecodingConfig,
    *,
    alone: bool = False,
) -> SlotDecoder:
    """Makes the model ready to infer at a moment.

    Args:
        model: the model, loaded for this catalogue.
        catalogue: what may be inferred.
        log_prior_I: log P(item) at that moment.
        config: the settings.
        alone: the denoiser without co-occurrence and complements, which the shipped score has.
    """
    return SlotDecoder(
        denoiser=model.denoiser,
        items=make_item_tensors(model.denoiser, catalogue, log_prior_I),
        num_slots=config.num_slots,
        num_steps=config.num_steps,
        associations=model.associations,
        cooccurrences=model.cooccurrences,
        weights=model.card.model_weights if alone else model.card.weights,
        popularity_weight=config.popularity_weight,
        complements=model.complements,
    )
