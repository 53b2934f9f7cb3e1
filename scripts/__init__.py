"""Scripts used by the Makefile and the tests."""
