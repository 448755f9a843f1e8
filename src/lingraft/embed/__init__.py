"""Rows for pieces that the base never saw.

A new piece has a spelling that the base can read: its bytes, through the base's own merge
rules. The mean of those rows is where its own row starts, in embed_tokens (what the body
reads) and in lm_head (what it predicts). The checkpoint is expanded shard by shard: shards
without these two matrices are linked, not read.
"""
