"""QLoRA continued pretraining: a four-bit body, adapters on it, rows of embeddings.

The body of the expanded model is packed as NF4 and frozen. Every linear map of it, each
expert's included, carries a low-rank adapter; embed_tokens and lm_head, half of whose rows
are young, are trained whole in float32, or their added rows alone, or none, all at once or in
phases. The loss is next-token cross-entropy. Routers are frozen, and carry an adapter only if that
is asked for. Their load-balancing loss, which would bend what they read, is left out unless asked
for.
"""
