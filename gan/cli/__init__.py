"""The command line of this package, and the options that all commands share."""
