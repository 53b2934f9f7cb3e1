"""The command line: the same use cases as the pages, for scripts; documented in docs/cli.md."""
