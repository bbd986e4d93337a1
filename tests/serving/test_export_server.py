"""Repositories for model servers, looked at by what is not ours: the path a server takes, its own parser."""

from __future__ import annotations
