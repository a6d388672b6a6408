"""The Evidently workspace: one project that collects drift and lift reports, with its dashboard.

Open it with `evidently ui --workspace DIR --port N` (see `ui_command`).
"""

import sys
from pathlib import Path

from evidently.core.report import Snapshot
from evidently.sdk.models import DashboardPanelPlot
from evidently.ui.workspace import Project, Workspace


def open_project(workspace: Path, *, name: str, panels: dict[str, list[DashboardPanelPlot]]) -> Project:
    """Opens the project called `name`, or creates it; adds the `panels` (tab -> panels) of the tabs that it lacks."""
    workspace.mkdir(parents=True, exist_ok=True)
    store = Workspace.create(str(workspace))
    found = [project for project in store.list_projects() if project.name == name]
    project = found[0] if found else store.create_project(name, "ReaSeq: drift and A/B lift")
    known = {tab.title for tab in project.dashboard.model().tabs}
    for tab, plots in panels.items():
        for plot in plots if tab not in known else []:
            project.dashboard.add_panel(plot, tab=tab)
    return project


def add_snapshot(workspace: Path, project: Project, snapshot: Snapshot, *, name: str) -> None:
    """Adds a report under `name`; one of the same name is replaced, so that a step can be run again."""
    store = Workspace.create(str(workspace))
    for run_id in store.list_runs(project.id):
        run = store.get_run(project.id, run_id)
        if run is not None and run.name == name:
            store.delete_run(project.id, run_id)
    store.add_run(project.id, snapshot, include_data=False, name=name)


def ui_command(workspace: Path, *, port: int) -> list[str]:
    """The command that serves the workspace on the loopback interface.

    Run it with `DO_NOT_TRACK=1` in the environment to keep Evidently from reporting its use.
    """
    program = Path(sys.executable).with_name("evidently")
    return [str(program), "ui", "--workspace", str(workspace), "--host", "127.0.0.1", "--port", str(port)]
