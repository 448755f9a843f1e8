"""The extended tokenizer, and the proof that it is one.

Every added rule ranks below every rule of the base, so the base's own encoding runs to its end
first and added rules only join what it left: the extended encoding of any text is the base's
with some neighbours joined. Text without the added characters is untouched by that, bit for
bit. SentencePiece and the fast tokenizer agree because added scores are real, descend, and stay
distinct in float32 (the widely copied recipe gives every added piece score 0).
"""
