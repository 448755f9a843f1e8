"""Fold the adapter into the weights: W + (alpha / rank) B A, shard by shard.

Memory holds one matrix at a time, whatever the model's size, until the end: then the merged
folder is loaded as any user would load it, and its logits are compared with those of the
base with the adapter beside it.
"""
