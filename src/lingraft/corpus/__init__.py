"""Corpus: raw files become clean, distinct documents, split once and for all.

Readers give raw texts, `clean` makes them comparable, exact duplicates go (the first set that
has a text keeps it), and a hash decides the split: a document that is held out stays held out
when data is added. What is dropped is counted by reason, with examples, never in silence.
"""
