"""The client of a served generator."""
