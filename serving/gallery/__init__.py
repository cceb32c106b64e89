"""The web gallery."""
