"""Builds the web page into the wheel, where npm is there; a package without it works as well."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PAGE = Path("src", "scriptservice", "ui", "index.html")


class PageBuildHook(BuildHookInterface[Any]):
    """Calls ``scripts/build-page``, which does nothing while the page's sources are unchanged."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002
        """Build the page, but not for an editable install, which has to be quick.

        Args:
            version: which kind of wheel: ``standard`` or ``editable``.
            build_data: hatchling's; what the build makes is among the wheel's artifacts already.
        """
        if version == "editable":
            return
        problem = self._build()
        if problem is None:
            return
        if (Path(self.root) / PAGE).exists():
            self.app.display_warning(f"the web page in this wheel may not be the newest: {problem}")
        else:
            self.app.display_warning(f"this wheel is without the web page: {problem}")

    def _build(self) -> str | None:
        """Build it; return why that could not be done, None if it was."""
        script = Path(self.root) / "scripts" / "build-page"
        if not script.exists() or not (Path(self.root) / "web").is_dir():
            return "its sources are not here"
        if shutil.which("npm") is None:
            return "there is no npm to build it"
        if subprocess.run(["bash", script], cwd=self.root, check=False).returncode:
            return "scripts/build-page failed"
        return None
