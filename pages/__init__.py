"""Pages show: what a person sees, one script per page, in sections. No script lies directly here."""
