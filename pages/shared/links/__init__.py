"""Links that reopen a view: the parameters of a page, from what is stored."""
