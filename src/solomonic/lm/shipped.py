"""Where the language model is that comes with the package."""

from pathlib import Path

ASSISTANT = Path(__file__).resolve().parent / "models" / "assistant-small.solo"
"""A small B'MOJO model of what people say to assistants (models/assistant-small.md)."""
