"""Pages: the user interface, one script per page, in sections. No script lies directly here."""
