"""Metrics: statistics and features in, an estimate with its interval out. No input or output here."""
