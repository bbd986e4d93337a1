"""Finds the data files the program needs at run time: in an installed wheel, or in the checkout the package lies in.

In: a path as it stands in the repository (``calibration/recipes/default.toml``). Out: where that file is.
"""

from __future__ import annotations

from pathlib import Path

from edge_van.errors import EdgeVanError

DEMO_CHECKPOINT = "calibration/demo/van_b0_cifar10.safetensors"
DEMO_CALIBRATION = "calibration/demo/calibration.zip"
DEMO_VALIDATION = "calibration/demo/validation.zip"
DEFAULT_RECIPE = "calibration/recipes/default.toml"
DEPLOY_AGENT = "deploy/agent/edge_van_agent.py"
ANSIBLE_DEPLOY = "deploy/ansible/deploy.yml"
ANSIBLE_ROLLBACK = "deploy/ansible/rollback.yml"

_PACKAGE = Path(__file__).resolve().parent


def asset(relative: str) -> Path:
    """The path of a packaged file; an ``EdgeVanError`` where neither the wheel nor the checkout has it."""
    for root in (_PACKAGE / "_assets", _PACKAGE.parent):
        if (path := root / relative).is_file():
            return path
    raise EdgeVanError(
        f"{relative} belongs to edge-van and is in neither {_PACKAGE / '_assets'} nor {_PACKAGE.parent}; "
        f"install edge-van again, or bring the file back in a checkout: git checkout -- {relative}"
    )
