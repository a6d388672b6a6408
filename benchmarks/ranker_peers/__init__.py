"""Other libraries' rankers on the product's own rows, in an environment of their own: so nothing is imported here."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.results import Row


def measure(*, quick: bool) -> list["Row"]:
    """All rows of the peers."""
    from benchmarks.ranker_peers.compare import measure as compare

    return compare(quick=quick)
