import numpy as np

from simulation.shop_world import load_shop_world


def test_every_product_type_is_wanted_in_some_phase() -> None:
    world = load_shop_world()
    unwanted = [
        kind.type_id
        for kind, wanted in zip(world.types, world.phase_wants.any(axis=0), strict=True)
        if not wanted
    ]
    assert unwanted == []


def test_categories_are_paths_and_unique() -> None:
    categories = [kind.category for kind in load_shop_world().types]
    assert len(set(categories)) == len(categories)
    assert all(category.count(" > ") == 2 for category in categories)


def test_preferred_selling_points_exist_on_wanted_types() -> None:
    world = load_shop_world()
    on_type = np.array([[variant in kind.variants for variant in world.variants] for kind in world.types])
    wanted = (world.phase_wants > 0) @ on_type
    assert not (world.phase_prefers.astype(bool) & ~wanted).any()


def test_shares_elsewhere_are_shares() -> None:
    world = load_shop_world()
    assert ((world.phase_elsewhere >= 0) & (world.phase_elsewhere <= 1)).all()
    assert world.first_phase[-1] == len(world.phase_days)
