"""A recipe small enough for tests, and its TOML."""

from __future__ import annotations

from pathlib import Path

TINY = """
[run]
name = "tiny"
folder = "{folder}"

[[corpus.sets]]
name = "zh"
language = "zh"
sources = ["{zh}"]
reader = "lines"

[[corpus.sets]]
name = "en"
language = "en"
sources = ["{en}"]
reader = "lines"

[corpus]
valid_frac = 0.1

[base]
tokenizer = "package:mistral_common/data/tokenizer.model.v1"

[base.shape]
hidden_size = 16
intermediate_size = 32
num_hidden_layers = 2
num_attention_heads = 2
num_key_value_heads = 1
max_position_embeddings = 64

[base.pretrain]
sets = ["en"]
seq_len = 32
batch_size = 2
steps = 6
checkpoint_every = 2
max_shard_mb = 1.0

[vocab]
sets = ["zh"]
evaluation = ["zh"]
char_counts = [0, 4]
max_pieces = 60
size = 40

[train]
mixture = ["1:zh", "0.5:en"]
seq_len = 32
micro_batch_size = 2
lr = 1e-3
dtype = "float32"
max_steps = 6
eval_every = 3
eval_docs = 4
checkpoint_every = 2

[train.lora]
rank = 2
alpha = 4.0

[evals]
max_docs = 4
max_tokens = 64
prompts = ["天气"]
max_new_tokens = 4
"""

_SUBJECTS = ["小明", "老师", "我们", "北京的朋友", "那位医生", "他的姐姐", "学生们"]
_VERBS = ["喜欢看书", "在公园里跑步", "正在学习汉语", "昨天去了上海", "觉得天气很好"]
_ENDS = ["，因为今天是星期天。", "，大家都很高兴！", "，但是没有时间。", "，这是真的吗？"]


def write_tiny_recipe(folder: Path) -> Path:
    """Write a recipe and its two small corpora into `folder`; return the recipe's path."""
    zh = [s + v + e for s in _SUBJECTS for v in _VERBS for e in _ENDS]
    en = [
        f"The {a} number {n} is a {b} one, said the teacher."
        for n in range(40)
        for a, b in [("first", "good"), ("last", "small"), ("next", "fine")]
    ]
    (folder / "zh.txt").write_text("\n".join(zh), encoding="utf-8")
    (folder / "en.txt").write_text("\n".join(en), encoding="utf-8")
    recipe = folder / "tiny.toml"
    text = TINY.format(folder=folder / "runs", zh=folder / "zh.txt", en=folder / "en.txt")
    recipe.write_text(text, encoding="utf-8")
    return recipe
