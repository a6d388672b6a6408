"""Feature services of deployed rankers: which features a model version reads."""

from pathlib import Path
from typing import Final

from feast import FeatureService

from contracts.errors import UserError
from feature_repo.store import open_store
from feature_repo.views import USER_VIEWS, knowledge_view_name

_ITEM_ATTRIBUTES: Final = "items"


def register_service(store: Path, name: str, *, space: str | None, description: str, dim: int | None = None) -> None:
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
    feast = open_store(store)
    views = {view.name: view for view in feast.list_feature_views()}
    wanted = [*USER_VIEWS, _ITEM_ATTRIBUTES]
    if space is not None:
        wanted.append(knowledge_view_name(space))
        if wanted[-1] not in views:
            spaces = sorted(view.tags["space"] for view in views.values() if "space" in view.tags)
            raise UserError(
                f"the ranker of feature service '{name}' needs embedding space '{space}', the feature store in {store} "
                f"holds {', '.join(spaces) or 'none'}; materialize that space's features, or train on the store's."
            )
        stored = views[wanted[-1]].tags.get("dim", "an unknown number")
        if dim is not None and stored != str(dim):
            raise UserError(
                f"the ranker of feature service '{name}' takes vectors of {dim} numbers, space '{space}' in {store} "
                f"has {stored}; materialize the features that it was trained with."
            )
    feast.apply([FeatureService(name=name, features=[views[view] for view in wanted], description=description)])
