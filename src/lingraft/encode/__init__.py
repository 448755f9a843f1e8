"""Text to packed token files: documents end to end, with BOS and EOS, nothing dropped.

The reference forgot EOS and dropped text at every batch end. Here each document is whole, and
its end and its size in bytes stand beside the ids, so that bits per byte can be told later.
"""
