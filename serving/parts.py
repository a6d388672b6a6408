"""What a ranking is made with: the parts that can be away, as the service sees them."""

from collections.abc import Iterable, Sequence
from typing import Protocol

from feature_repo.items import Encode, ItemFeatures
from feature_repo.online import UserFeatures
from feature_repo.stream import Behavior
from models.ranker.encoding import Feed
from serving.triton_client import Outputs


class Features(Protocol):
    """Reads features (`feature_repo.online.FeatureReader`)."""

    async def user(self, user_id: str, *, service: str) -> UserFeatures:
        """Reads what is known of a user."""
        ...

    async def items(self, item_ids: Sequence[str], *, service: str, dim: int, encode: Encode) -> ItemFeatures:
        """Reads what is known of items."""
        ...


class Scorer(Protocol):
    """Runs models (`serving.triton_client.TritonScorer`)."""

    async def score(self, model: str, feed: Feed, outputs: tuple[str, ...], *, timeout_s: float) -> Outputs:
        """Runs a model."""
        ...


class Histories(Protocol):
    """Takes what users do (`feature_repo.stream.HistoryWriter`)."""

    def add(self, behaviors: Iterable[Behavior]) -> None:
        """Takes it without waiting."""
        ...
