"""What is deployed, as one consistent picture per request: the routes and their rankers together."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from serving.assignment import Assignment, assign
from serving.rankers import DeployedRanker
from serving.routes import ROUTES_FILE, Routes, read_routes

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Deployment:
    """Routes with the rankers that they name."""

    routes: Routes
    rankers: dict[str, DeployedRanker]
    """By model name."""

    def choose(self, user_id: str, forced: Mapping[str, str] | None = None) -> tuple[Assignment, DeployedRanker]:
        """The user's arms and the ranker that answers.

        Raises:
            UserError: `forced` names an experiment or an arm that is not there.
        """
        assignment = assign(self.routes, user_id, forced)
        return assignment, self.rankers[assignment.model]


class Deployments:
    """Follows the routes file: a switch or a rollback takes effect with the next request."""

    def __init__(self, state: Path, rankers: Path) -> None:
        """Reads what is deployed now.

        Raises:
            UserError: nothing is.
        """
        self._state = state
        self._rankers = rankers
        self._path = state / ROUTES_FILE
        self._seen = self._stamp()
        self._current = self._load({})

    def current(self) -> Deployment:
        """What is deployed now. Routes that cannot be read leave the former ones in effect, and are reported."""
        stamp = self._stamp()
        if stamp != self._seen:
            self._seen = stamp
            try:
                self._current = self._load(self._current.rankers)
            except (OSError, ValueError):
                _log.exception("the new routes cannot be used; revision %d stays", self._current.routes.revision)
        return self._current

    def _load(self, known: dict[str, DeployedRanker]) -> Deployment:
        routes = read_routes(self._state)
        rankers = {name: known.get(name) or DeployedRanker.load(self._rankers / name) for name in routes.models}
        return Deployment(routes, rankers)

    def _stamp(self) -> tuple[int, int]:
        try:
            stat = self._path.stat()
        except FileNotFoundError:
            return 0, 0
        return stat.st_ino, stat.st_mtime_ns
