"""What every package stands on: the terminal, atomic files, threads, processes.

Public: console (say, result, table, progress), files (atomic, write_json, read_json, sha256), parallel.ordered_map,
distributed.
"""
