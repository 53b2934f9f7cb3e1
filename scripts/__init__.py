"""Small programs that the Makefile and the tests run."""
