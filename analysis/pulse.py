"""The progress callback that long computations call between small steps."""

from collections.abc import Callable

Pulse = Callable[[int, int], None]
"""Called with (steps done, steps in all), or (0, 0) if unknown.

An exception it raises, such as that of a cancelled job, aborts the work, which then leaves nothing behind."""
