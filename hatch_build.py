"""Builds what the wheel has besides Python: the web page and the launcher.

Each where there is something to build it with; a package without it works as well.
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
    """Something that is built.

    Attributes:
        name: for people.
        results: the files that are there once it was built; the first on every machine.
        sources: directory of what it is built from.
        script: builds it, or does nothing while its sources are unchanged.
        tool: without it nothing can be built.
    """

    name: str
    results: tuple[Path, ...]
    sources: str
    script: str
    tool: str


PAGE = Part(
    name="the web page",
    results=(Path("src", "scriptservice", "ui", "index.html"),),
    sources="web",
    script="build-page",
    tool="npm",
)
LAUNCHER = Part(
    name="the launcher",
    results=tuple(
        Path("src", "scriptservice", "keeper", "spawn", name) for name in ("launcher", "clone.so")
    ),
    sources="launcher",
    script="build-launcher",
    tool="cc",
)


class PartsBuildHook(BuildHookInterface[Any]):
    """Calls the scripts that build the parts."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build the parts; for an editable install, which has to be quick, without the page.

        Args:
            version: which kind of wheel: ``standard`` or ``editable``.
            build_data: hatchling's; the page is among the wheel's artifacts already.
        """
        parts = [LAUNCHER] if version == "editable" else [PAGE, LAUNCHER]
        for part in parts:
            self._build(part)
        built = [str(each) for each in LAUNCHER.results if (Path(self.root) / each).exists()]
        if version != "editable" and built:
            # Programs of one kind of machine, for any Python of that machine.
            build_data["artifacts"] += built
            build_data["pure_python"] = False
            platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
            build_data["tag"] = f"py3-none-{platform}"

    def _build(self, part: Part) -> None:
        problem = self._problem(part)
        if problem is None:
            return
        if (Path(self.root) / part.results[0]).exists():
            warning = f"{part.name} in this wheel may not be the newest: {problem}"
        else:
            warning = f"this wheel is without {part.name}: {problem}"
        self.app.display_warning(warning)

    def _problem(self, part: Part) -> str | None:
        """Build it; return why that could not be done, None if it was."""
        script = Path(self.root) / "scripts" / part.script
        if not script.exists() or not (Path(self.root) / part.sources).is_dir():
            return "its sources are not here"
        if shutil.which(part.tool) is None:
            return f"there is no {part.tool} to build it"
        if subprocess.run(["bash", script], cwd=self.root, check=False).returncode:
            return f"scripts/{part.script} failed"
        return None
