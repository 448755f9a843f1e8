"""The model that a language is grafted onto, brought into one shape whatever its origin.

A local folder or a hub repository is linked as it is; for demonstrations and tests the run
trains a small Mixtral from nothing. Either way what comes out is a model folder in published
parameter names, with its tokenizer: every form made from a `tokenizer.model`, or a fast one's files
as they are.
"""
