"""Which pieces to add: every vocabulary for the price of one.

Byte pair encoding is greedy, so the first k rules of one long run *are* the vocabulary of k
rules: one run for each number of single characters replaces a training for every size. ALP,
the average log probability of an evaluation text (Zheng et al. 2021, arXiv 2109.07306), rides
along: a rule that joins n pairs changes three token counts and the total, so ALP at every size
costs a few additions a rule, and is exact.

Training starts from the base tokenizer's own tokens, and every new rule ranks after all of the
base's: the vocabulary that is scored is the one that ships.

    segments    text -> table of segments of joinable symbols, with weights
    bpe         table -> merge rules, and how often each joins in every evaluation text
    kernel      the compiled part of bpe
    alp         those joins -> ALP and tokens at every size
    choose      curves -> size at the knee, best number of single characters
    plot        curves -> one panel an evaluation text
"""
