"""The one progress callback: what long computations call between their small steps."""

from collections.abc import Callable

Pulse = Callable[[int, int], None]
"""Called with (steps done, steps in all), or (0, 0) where that is unknown.

An exception it raises, such as that of a cancelled job, ends the work and leaves nothing half-done behind."""
