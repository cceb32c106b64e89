"""What every package stands on: the terminal, atomic files, threads, processes, and pages in a browser.

Public: console (say, result, table, progress), files (atomic, write_json, read_json, sha256), parallel.ordered_map,
distributed, page and web.
"""
