"""`make pictures`: takes the dashboard's picture for the README in a real browser.

It needs chromium and a finished demo. It opens Evidently's UI on the demo's workspace, at the newest report.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from contracts.errors import UserError  # noqa: E402
from monitoring.evidently_workspace import build_ui_command  # noqa: E402
from serving.deployment.server_processes import ServerProcess  # noqa: E402

PICTURE = ROOT / "docs" / "pictures" / "dashboard.png"
WORKSPACE = ROOT / ".reaseq" / "shop" / "monitoring"
_PORT = 8086
# The page draws with JavaScript: the browser lets this much of its own time pass before the picture.
_DRAWING_TIME_MS = 30_000
_QUIET_OPTIONS = (
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-gpu",
)


def read_json(path: str) -> Any:
    """What the dashboard's API answers."""
    with urllib.request.urlopen(f"http://127.0.0.1:{_PORT}/api/{path}", timeout=30) as answer:
        return json.load(answer)


def find_lift_page() -> str:
    """Address of the newest lift report."""
    project = read_json("projects")[0]["id"]
    reports = [
        report for report in read_json(f"projects/{project}/reports") if report["name"].startswith("lift")
    ]
    newest = max(reports, key=lambda report: report["timestamp"])
    return f"http://127.0.0.1:{_PORT}/projects/{project}/reports/{newest['id']}"


def take_picture(browser: str, page: str, picture: Path) -> None:
    """Takes a picture of a page."""
    with tempfile.TemporaryDirectory() as profile:
        size = ("--hide-scrollbars", "--window-size=1300,860", f"--virtual-time-budget={_DRAWING_TIME_MS}")
        command = [
            browser,
            "--headless",
            "--no-sandbox",
            *_QUIET_OPTIONS,
            *size,
            f"--user-data-dir={profile}",
        ]
        subprocess.run(
            [*command, f"--screenshot={picture}", page], check=True, capture_output=True, timeout=120
        )


def main() -> int:
    """Opens the last demo's dashboard and takes its picture."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None or not WORKSPACE.is_dir():
        raise UserError("`make pictures` needs chromium on the path and a finished `make demo`")
    os.environ["DO_NOT_TRACK"] = "1"
    server = ServerProcess(
        build_ui_command(WORKSPACE, port=_PORT),
        name="the dashboard",
        ready_url=f"http://127.0.0.1:{_PORT}/api/projects",
        log=WORKSPACE.parent / "dashboard.log",
        environment={},
    )
    try:
        server.wait_ready(120)
        take_picture(browser, find_lift_page(), PICTURE)
    finally:
        server.stop()
    print(f"wrote {PICTURE.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
