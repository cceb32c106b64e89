"""The whole loop in one command: stages, their file, their page."""
