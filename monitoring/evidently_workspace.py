"""The Evidently workspace: one project that collects drift and lift reports, with its dashboard.

Open it with `evidently ui --workspace DIR --port N` (see `build_ui_command`).
"""

import sys
from pathlib import Path
from typing import Final

from evidently.core.report import Snapshot
from evidently.sdk.models import DashboardPanelPlot
from evidently.ui.workspace import Project, Workspace

# A workspace belongs to one run of the pipeline: a second project would split its history.
_PROJECT_NAME: Final = "reaseq"


def open_project(workspace: Path, *, panels: dict[str, list[DashboardPanelPlot]]) -> Project:
    """Opens the project, or creates it; adds the `panels` (tab -> panels) of the tabs that it lacks."""
    workspace.mkdir(parents=True, exist_ok=True)
    evidently_store = Workspace.create(str(workspace))
    known_projects = [project for project in evidently_store.list_projects() if project.name == _PROJECT_NAME]
    project = (
        known_projects[0]
        if known_projects
        else evidently_store.create_project(_PROJECT_NAME, "ReaSeq: drift and A/B lift")
    )
    existing_tabs = {tab.title for tab in project.dashboard.model().tabs}
    for tab, tab_panels in panels.items():
        for panel in tab_panels if tab not in existing_tabs else []:
            project.dashboard.add_panel(panel, tab=tab)
    return project


def replace_panels(project: Project, panels: dict[str, list[DashboardPanelPlot]]) -> None:
    """Makes these (tab -> panels) the whole dashboard, in this order."""
    project.dashboard.clear_dashboard()
    for tab_title, tab_panels in panels.items():
        for panel in tab_panels:
            project.dashboard.add_panel(panel, tab=tab_title)


def add_snapshot(workspace: Path, project: Project, snapshot: Snapshot, *, name: str) -> None:
    """Adds a report under `name`; one of the same name is replaced, so that a step can be run again."""
    evidently_store = Workspace.create(str(workspace))
    for run_id in evidently_store.list_runs(project.id):
        stored_run = evidently_store.get_run(project.id, run_id)
        if stored_run is not None and stored_run.name == name:
            evidently_store.delete_run(project.id, run_id)
    evidently_store.add_run(project.id, snapshot, include_data=False, name=name)


def build_ui_command(workspace: Path, *, port: int) -> list[str]:
    """The command that serves the workspace on the loopback interface.

    Run it with `DO_NOT_TRACK=1` in the environment to keep Evidently from reporting its use.
    """
    program = Path(sys.executable).with_name("evidently")
    return [str(program), "ui", "--workspace", str(workspace), "--host", "127.0.0.1", "--port", str(port)]
