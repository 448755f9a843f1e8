"""The facts of a run, told to people: one HTML page and one model card.

Nothing is measured here. Every number stands in a manifest or a curve file of an earlier
stage, or is a ratio or a sum of two that do; times and machines are left out, so equal runs
give equal bytes. The page opens from disk with no network: style, plots and data are in it.
"""
