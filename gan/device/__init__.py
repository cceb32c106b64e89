"""The device that the work runs on: which it is, its memory, whether its results repeat, and graphs of launches.

Public: selection.select; memory (upload, Download, free_memory); determinism.deterministic and tf32; graphs.
"""
