"""What is deployed, as one consistent picture per request: the routes and their rankers together."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from serving.deployment.routes import ROUTES_FILE, Routes, read_routes
from serving.experiments.arm_assignment import Assignment, assign_arms
from serving.gateway.deployed_ranker import DeployedRanker

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Deployment:
    """Routes with the rankers that they name."""

    routes: Routes
    rankers: dict[str, DeployedRanker]
    """By model name."""

    def choose_ranker(
        self, user_id: str, forced_arms: Mapping[str, str] | None = None
    ) -> tuple[Assignment, DeployedRanker]:
        """The user's arms and the ranker that answers.

        Raises:
            UserError: `forced_arms` names an experiment or an arm that is not there.
        """
        assignment = assign_arms(self.routes, user_id, forced_arms)
        return assignment, self.rankers[assignment.model]

    def find_interleaved(self, assignment: Assignment) -> DeployedRanker | None:
        """The ranker that shares the page with the assigned one; a holdout sees none."""
        interleaved = self.routes.arms[assignment.arm].interleaved
        if interleaved is None or assignment.source == "holdout":
            return None
        return self.rankers[interleaved]


class DeploymentWatcher:
    """Follows the routes file: a switch or a rollback takes effect with the next request."""

    def __init__(self, state: Path, rankers_folder: Path) -> None:
        """Reads what is deployed now.

        Raises:
            UserError: nothing is.
        """
        self._state = state
        self._rankers_folder = rankers_folder
        self._file_stamp = self._read_file_stamp()
        self._deployment = self._load_deployment({})

    def current_deployment(self) -> Deployment:
        """What is deployed now. Routes that cannot be read are logged, and the former ones stay."""
        file_stamp = self._read_file_stamp()
        if file_stamp != self._file_stamp:
            self._file_stamp = file_stamp
            try:
                self._deployment = self._load_deployment(self._deployment.rankers)
            except (OSError, ValueError):
                revision = self._deployment.routes.revision
                _log.exception("the new routes cannot be used; revision %d stays", revision)
        return self._deployment

    def _load_deployment(self, loaded_rankers: dict[str, DeployedRanker]) -> Deployment:
        routes = read_routes(self._state)
        rankers = {
            model_name: loaded_rankers.get(model_name)
            or DeployedRanker.load(self._rankers_folder / model_name)
            for model_name in routes.model_names
        }
        return Deployment(routes, rankers)

    def _read_file_stamp(self) -> tuple[int, int]:
        try:
            file_stat = (self._state / ROUTES_FILE).stat()
        except FileNotFoundError:
            return 0, 0
        # The file is replaced, not rewritten: the inode tells two changes within one clock tick apart.
        return file_stat.st_ino, file_stat.st_mtime_ns
