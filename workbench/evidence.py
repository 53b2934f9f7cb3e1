"""What a finding's evidence says, read with tolerance, for pages and the CLI."""

from store.evidence import Decoded, Reading, TokenChances, read_evidence

__all__ = ["Decoded", "Reading", "TokenChances", "read_evidence"]
