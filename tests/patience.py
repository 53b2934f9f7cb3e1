"""How long a test waits for something to come true: a bound against hanging for ever, never a measure.

Every wait ends as soon as its condition holds, so that a quiet machine is quick and a busy one still passes.
"""

SECONDS = 600.0
MILLISECONDS = 1000 * SECONDS
