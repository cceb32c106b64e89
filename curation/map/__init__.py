"""A map of a dataset: its images in two dimensions, those with like features side by side, as one page.

Public are draw (`draw`) with request (`MapRequest`), and what it computes: layout, sample, sheets, page_columns.
"""
