"""What the graft did: base, expanded and trained model on the same held-out text.

Each model reads with its own tokenizer, so only figures that do not depend on tokens are
compared: bits per byte, and tokens per character beside it. Continuations of the same prompts
stand side by side, for the eye.
"""
