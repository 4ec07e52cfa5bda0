"""Reads this machine's settings of pip and npm, so that a build uses the same package registries.

Only an instruction that fetches packages gets the settings, as environment variables and read-only
files. No layer contains them, so the image is the same as on other machines.
"""

import os
import shlex
import subprocess
from collections.abc import Mapping
from pathlib import Path

Settings = Mapping[str, str]
_NPM = ("registry", "cafile", "proxy", "https-proxy", "noproxy")


def settings_by_command() -> dict[str, Settings]:
    """Return settings as environment variables; the key is a part of the RUN that needs them."""
    return {"pip download": _pip_settings(), "scripts/build-page": _npm_settings()}


def local_paths(settings: Settings) -> list[Path]:
    """Return the files and directories that settings name: packages and certificates."""
    found: set[Path] = set()
    for word in (word for value in settings.values() for word in value.split()):
        if word.startswith("file:///"):
            # The pages of a package index link to files in the directory above the index.
            found.add(Path(word.removeprefix("file://")).parent)
        elif word.startswith("/"):
            found.add(Path(word))
    return [path for path in sorted(found) if path.exists() and path != Path("/")]


def _pip_settings() -> Settings:
    lines = _output_of("python3", "-m", "pip", "config", "list").splitlines()
    found = {}
    for line in lines:
        name, _, value = line.partition("=")
        key = name.split(".")[-1].replace("-", "_").upper()
        found[f"PIP_{key}"] = " ".join(shlex.split(value)[0].split())
    return found


def _npm_settings() -> Settings:
    """Return npm's registry, proxy and certificate settings, without passwords and tokens."""
    found = {}
    for line in _output_of("npm", "config", "get", *_NPM).splitlines():
        name, _, value = line.partition("=")
        if name in _NPM and value not in {"", "null", "undefined"}:
            found[f"npm_config_{name.replace('-', '_')}"] = value
    # node trusts these certificates even if npm's own setting is empty.
    if certificates := os.environ.get("NODE_EXTRA_CA_CERTS"):
        found["NODE_EXTRA_CA_CERTS"] = certificates
    return found


def _output_of(*words: str) -> str:
    return subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True).stdout
