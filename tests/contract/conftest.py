"""Fixtures that the contract tests share."""

from coder_fixture import coder_server
from kubernetes_fixture import api_server, terraform

__all__ = ["api_server", "coder_server", "terraform"]
