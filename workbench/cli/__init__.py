"""The command line: the same use cases as the pages, for scripts. Words and shapes are in docs/cli.md."""
