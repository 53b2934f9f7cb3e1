"""Changed models as models of their own: weights with the changes in them, saved, reopened, compared."""
