"""The description of the architecture names what there is."""

import re
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
SOURCE = CHECKOUT / "src" / "scriptservice"
TEXT = (CHECKOUT / "docs" / "architecture.md").read_text()
NAMES = re.findall(r"`([\w./-]+/[\w./-]*|[\w-]+\.(?:py|c|h))`", TEXT)


def test_each_path_that_it_names_exists() -> None:
    assert len(NAMES) > 60
    files = {path.name for path in SOURCE.rglob("*.py")}
    missing = [
        name
        for name in NAMES
        if not any((place / name).exists() for place in (SOURCE, CHECKOUT))
        and not ("/" not in name and name in files)
    ]
    assert missing == []


def test_it_names_each_package() -> None:
    packages = {
        str(path.parent.relative_to(SOURCE))
        for path in SOURCE.rglob("__init__.py")
        if path.parent != SOURCE and path.parent.name != "versions"
    }
    named = {str(Path(name).parent) if name.endswith(".py") else name.rstrip("/") for name in NAMES}
    assert sorted(packages - named) == []
