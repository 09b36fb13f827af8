"""The groups of figures by name. A module is imported by the process that needs it, no sooner."""

import importlib

GROUPS = {
    "torch": "operators:Operators",
    "training": "training:Training",
    "small": "small:Small",
    "loader": "loader:Loader",
}


class Unavailable(Exception):
    """It can't be measured here, and why."""


class Wrong(Exception):
    """It computed something wrong."""


def load(name):
    """The class of a group: made with the arguments, it has `measure(figure)`."""
    module, found = GROUPS[name].split(":")
    return getattr(importlib.import_module("sconce_figures." + module), found)
