"""The house's floors: imports go down only, rooms of one floor do not know each other (DESIGN: plan of the house)."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FLOORS = {
    "contracts": 0,
    "models.workers": 0,
    "simulation": 1,
    "models.knowledge": 1,
    "models.behavior": 1,
    "models.ranker": 1,
    "feature_repo": 1,
    "monitoring": 1,
    "serving": 1,
    "components": 2,
    "pipelines": 3,
    "reaseq": 4,
}
ALLOWED_NEIGHBOURS = {("serving", "models.ranker"), ("serving", "feature_repo")}
"""The gateway reads features through `feature_repo` and encodes them as the ranker says."""
SERVING_MAY_READ = {"models.ranker.spec", "models.ranker.encoding"}
FORBIDDEN_LIBRARIES = {
    "models": {"kfp", "feast", "tritonclient", "bentoml"},
    "contracts": {"kfp", "feast", "tritonclient", "bentoml", "torch", "evidently"},
}


def _room(module: str) -> str | None:
    return next((room for room in FLOORS if module == room or module.startswith(room + ".")), None)


def _imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def _sources(room: str) -> list[Path]:
    return sorted((ROOT / room.replace(".", "/")).rglob("*.py"))


@pytest.mark.parametrize("room", FLOORS)
def test_imports_go_down_only(room):
    broken = []
    for path in _sources(room):
        for module in _imports(path):
            other = _room(module)
            if other is None or other == room or (room, other) in ALLOWED_NEIGHBOURS:
                continue
            if FLOORS[other] >= FLOORS[room]:
                broken.append(f"{path.relative_to(ROOT)} imports {module}")
    assert not broken


def test_serving_reads_only_the_light_part_of_the_ranker():
    for path in _sources("serving"):
        ranker = {module for module in _imports(path) if module.startswith("models.ranker.")}
        assert all(any(m == ok or m.startswith(ok + ".") for ok in SERVING_MAY_READ) for m in ranker), path


@pytest.mark.parametrize("room", FORBIDDEN_LIBRARIES)
def test_lower_floors_know_nothing_of_the_platform(room):
    for path in _sources(room):
        roots = {module.split(".")[0] for module in _imports(path)}
        assert not roots & FORBIDDEN_LIBRARIES[room], path


def test_no_room_shadows_a_library():
    """A top-level folder named like an installed distribution's module would hide it, or be hidden."""
    from importlib.metadata import packages_distributions

    owners = packages_distributions()
    for room in {room.split(".")[0] for room in FLOORS}:
        assert set(owners.get(room, ["reaseq"])) == {"reaseq"}
