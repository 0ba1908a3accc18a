"""Marks of tests that need the native core, or more of it than every machine has."""

import pytest

from solomonic.kernels import native

needs_core = pytest.mark.skipif(
    native.load() is None, reason=str(native.why_not() or "the native core is here")
)
needs_recognizer = pytest.mark.skipif(
    not hasattr(getattr(native.load(), "speech_stream", None), "Recognizer"),
    reason="the native core is not built with the recogniser",
)
