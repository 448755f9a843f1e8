"""QLoRA continued pretraining: a four-bit body, adapters on it, embeddings trained whole.

The body of the expanded model is packed as NF4 and frozen. Every linear map of it, each
expert's included, carries a low-rank adapter; embed_tokens and lm_head, half of whose rows
are young, are trained whole in float32. The loss is next-token cross-entropy alone: the
router is frozen, so its load-balancing loss would train nothing that should move.
"""
