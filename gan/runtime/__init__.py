"""What every package stands on: the terminal, atomic files, threads, processes."""
