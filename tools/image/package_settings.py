"""This machine's settings for what fetches packages, so that its registries are found.

They reach the one instruction that fetches, as environment and as files shown for reading, and no
layer: the image knows only what everybody's does.
"""

import os
import shlex
import subprocess
from collections.abc import Mapping
from pathlib import Path

Settings = Mapping[str, str]
_NPM = ("registry", "cafile", "proxy", "https-proxy", "noproxy")


def settings_by_command() -> dict[str, Settings]:
    """Return the settings, as environment variables, by the words of a RUN that needs them."""
    return {"pip download": _pip_settings(), "scripts/build-page": _npm_settings()}


def local_places(settings: Settings) -> list[Path]:
    """Return what settings name on this machine, packages and certificates."""
    found: set[Path] = set()
    for word in (word for value in settings.values() for word in value.split()):
        if word.startswith("file:///"):
            # The pages of an index lead to files beside it.
            found.add(Path(word.removeprefix("file://")).parent)
        elif word.startswith("/"):
            found.add(Path(word))
    return [place for place in sorted(found) if place.exists() and place != Path("/")]


def _pip_settings() -> Settings:
    lines = _said("python3", "-m", "pip", "config", "list").splitlines()
    found = {}
    for line in lines:
        name, _, value = line.partition("=")
        key = name.split(".")[-1].replace("-", "_").upper()
        found[f"PIP_{key}"] = " ".join(shlex.split(value)[0].split())
    return found


def _npm_settings() -> Settings:
    """Return where npm finds packages and whom it trusts; no passwords or tokens."""
    found = {}
    for line in _said("npm", "config", "get", *_NPM).splitlines():
        name, _, value = line.partition("=")
        if name in _NPM and value not in {"", "null", "undefined"}:
            found[f"npm_config_{name.replace('-', '_')}"] = value
    # What node itself is told to trust besides, where npm's own setting says nothing.
    if certificates := os.environ.get("NODE_EXTRA_CA_CERTS"):
        found["NODE_EXTRA_CA_CERTS"] = certificates
    return found


def _said(*words: str) -> str:
    return subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True).stdout
