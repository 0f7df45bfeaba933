"""Azure's answers made into rows of the lake."""
