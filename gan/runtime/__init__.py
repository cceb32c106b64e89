"""What every package stands on: the terminal, atomic files, threads, processes, and pages in a browser."""
