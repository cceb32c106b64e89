"""Serve a painter. Its modules come with the export and server commands."""
