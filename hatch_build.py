"""The build hook of the wheel: builds the web page and the launcher.

A part whose build tool is missing is left out with a warning; the package works without it.
"""

import shutil
import subprocess
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


@dataclass(frozen=True)
class Part:
    """A part of the wheel that a script builds.

    Attributes:
        name: as warnings name it.
        result: a file that the build leaves.
        sources: the directory of its sources.
        script: builds the part, or does nothing while its sources are unchanged.
        tool: the program without which the part cannot be built.
    """

    name: str
    result: Path
    sources: str
    script: str
    tool: str


PAGE = Part(
    name="the web page",
    result=Path("src", "scriptservice", "ui", "index.html"),
    sources="web",
    script="build-page",
    tool="npm",
)
LAUNCHER = Part(
    name="the launcher",
    result=Path("src", "scriptservice", "keeper", "spawn", "launcher"),
    sources="launcher",
    script="build-launcher",
    tool="cc",
)


class PartsBuildHook(BuildHookInterface[Any]):
    """Calls the scripts that build the parts."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build the parts. An editable install has to be quick, so it leaves the page out.

        Args:
            version: the kind of wheel: ``standard`` or ``editable``.
            build_data: hatchling's description of the wheel. The launcher is added to its
                artifacts; ``pyproject.toml`` has the page among them already.
        """
        parts = [LAUNCHER] if version == "editable" else [PAGE, LAUNCHER]
        for part in parts:
            self._build(part)
        if version != "editable" and (Path(self.root) / LAUNCHER.result).exists():
            # The program needs this kind of machine, but works with any Python 3 on it.
            build_data["artifacts"].append(str(LAUNCHER.result))
            build_data["pure_python"] = False
            platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
            build_data["tag"] = f"py3-none-{platform}"

    def _build(self, part: Part) -> None:
        problem = self._run_script(part)
        if problem is None:
            return
        if (Path(self.root) / part.result).exists():
            warning = f"{part.name} in this wheel may not be the newest: {problem}"
        else:
            warning = f"this wheel is without {part.name}: {problem}"
        self.app.display_warning(warning)

    def _run_script(self, part: Part) -> str | None:
        """Run the script that builds a part; return why it failed, or None if it did not."""
        script = Path(self.root) / "scripts" / part.script
        if not script.exists() or not (Path(self.root) / part.sources).is_dir():
            return "its sources are missing"
        if shutil.which(part.tool) is None:
            return f"there is no {part.tool} to build it"
        if subprocess.run(["bash", script], cwd=self.root, check=False).returncode:
            return f"scripts/{part.script} failed"
        return None
