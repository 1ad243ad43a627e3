"""What uses the processor as a Claude at work does."""

from typing import Final

BUSY: Final = "while :; do for _ in {1..50000}; do :; done; sleep 0.1; done"
"""A script of bash: a third of a core, of which a tenth counts as work; a whole one would be taken from other tests."""
