"""Feature services of deployed rankers: which features a ranker version reads."""

from pathlib import Path
from typing import Final

from feast import FeatureService

from contracts.errors import UserError
from feature_repo.feast_store import open_store
from feature_repo.feature_views import USER_VIEWS, knowledge_view_name

_ITEM_ATTRIBUTES: Final = "items"


def register_service(
    store: Path, name: str, *, space: str | None, description: str, dim: int | None = None
) -> None:
    """Registers the feature service of a ranker.

    Args:
        store: folder of the feature store.
        name: the service's name, from the ranker's spec.
        space: embedding space of the item vectors that the ranker takes; None where it takes none.
        description: said in the registry.
        dim: length of those vectors, to be checked.

    Raises:
        UserError: the store does not hold that space, or holds vectors of another length.
    """
    feature_store = open_store(store)
    registered_views = {view.name: view for view in feature_store.list_feature_views()}
    view_names = [*USER_VIEWS, _ITEM_ATTRIBUTES]
    if space is not None:
        view_names.append(knowledge_view_name(space))
        if view_names[-1] not in registered_views:
            stored_spaces = sorted(v.tags["space"] for v in registered_views.values() if "space" in v.tags)
            raise UserError(
                f"the ranker of feature service '{name}' needs embedding space '{space}', the feature store "
                f"in {store} holds {', '.join(stored_spaces) or 'none'}; materialize that space's features, "
                "or train on the store's."
            )
        stored_dim = registered_views[view_names[-1]].tags.get("dim", "an unknown number")
        if dim is not None and stored_dim != str(dim):
            raise UserError(
                f"the ranker of feature service '{name}' takes vectors of {dim} numbers, space '{space}' "
                f"in {store} has {stored_dim}; materialize the features that it was trained with."
            )
    views = [registered_views[view_name] for view_name in view_names]
    feature_store.apply([FeatureService(name=name, features=views, description=description)])
