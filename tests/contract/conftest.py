"""Fixtures that the contract tests share."""

from coder_fixture import coder_server

__all__ = ["coder_server"]
