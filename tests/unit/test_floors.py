"""The floors of the house: imports go down only, and rooms of one floor do not know each other."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FLOORS = {
    "contracts": 0,
    # The training kit: it knows contracts only.
    "models.training": 1,
    "simulation": 2,
    "models.knowledge": 2,
    "models.behavior": 2,
    "models.ranker": 2,
    "feature_repo": 2,
    "monitoring": 2,
    "serving": 2,
    "components": 3,
    "pipelines": 4,
    "reaseq": 5,
}
ALLOWED_NEIGHBORS = {
    ("serving", "models.ranker"),
    ("serving", "models.knowledge"),
    ("serving", "feature_repo"),
}
"""The gateway reads features through `feature_repo` and encodes them as the ranker says. Queries it places as
the embedding space does."""
SERVING_MAY_READ = ("models.ranker.inputs.", "models.knowledge.embedding.query_encoder.")
"""What a request is made of; it needs no torch."""
FORBIDDEN_LIBRARIES = {
    "models": {"kfp", "feast", "tritonclient", "bentoml"},
    "contracts": {"kfp", "feast", "tritonclient", "bentoml", "torch", "evidently"},
}


def _find_room(module: str) -> str | None:
    return next((room for room in FLOORS if module == room or module.startswith(room + ".")), None)


def _read_imports(path: Path) -> set[str]:
    modules: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            modules.add(node.module)
            modules |= {f"{node.module}.{alias.name}" for alias in node.names}
    return modules


def _list_sources(room: str) -> list[Path]:
    return sorted((ROOT / room.replace(".", "/")).rglob("*.py"))


@pytest.mark.parametrize("room", FLOORS)
def test_imports_go_down_only(room):
    broken = []
    for path in _list_sources(room):
        for module in _read_imports(path):
            other = _find_room(module)
            if other is None or other == room or (room, other) in ALLOWED_NEIGHBORS:
                continue
            if FLOORS[other] >= FLOORS[room]:
                broken.append(f"{path.relative_to(ROOT)} imports {module}")
    assert not broken


def test_serving_reads_only_what_a_request_is_made_of():
    for path in _list_sources("serving"):
        model_modules = [module for module in _read_imports(path) if module.startswith("models.")]
        assert all(f"{module}.".startswith(SERVING_MAY_READ) for module in model_modules), path


@pytest.mark.parametrize("room", [room for room in FLOORS if not room.startswith("models.")])
def test_only_models_use_the_training_kit(room):
    for path in _list_sources(room):
        assert not [module for module in _read_imports(path) if module.startswith("models.training")], path


@pytest.mark.parametrize("room", FORBIDDEN_LIBRARIES)
def test_lower_floors_know_nothing_of_the_platform(room):
    for path in _list_sources(room):
        root_names = {module.split(".")[0] for module in _read_imports(path)}
        assert not root_names & FORBIDDEN_LIBRARIES[room], path


def test_no_room_shadows_a_library():
    """A top-level folder named like an installed distribution's module would hide it, or be hidden."""
    from importlib.metadata import packages_distributions

    owners = packages_distributions()
    for room in {room.split(".")[0] for room in FLOORS}:
        assert set(owners.get(room, ["reaseq"])) == {"reaseq"}
