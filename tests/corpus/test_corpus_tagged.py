from __future__ import annotations

import pytest

from lingraft.corpus.tagged import Paragraph, group_paragraphs, join_words


def group(*texts: str) -> list[str]:
    paragraphs = [Paragraph(n, text, 0) for n, text in enumerate(texts, 1)]
    return ["|".join(p.text for p in doc) for doc in group_paragraphs(paragraphs)]


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("迈向/v  充满/v  希望/n", "迈向充满希望"),
        ("[中央/n  人民/n  广播/vn  电台/n]nt  、/w", "中央人民广播电台、"),
        ("[/w  甲/n  ]/w", "[甲]"),
        ("和/或/c", "和/或"),
        ("//w", "/"),
        ("", ""),
    ],
)
def test_words_are_joined_without_their_tags(line: str, text: str) -> None:
    assert join_words(line) == text


@pytest.mark.parametrize("token", ["希望", "/v", "希望/", "希望/中"])
def test_a_token_without_a_tag_is_named(token: str) -> None:
    with pytest.raises(ValueError, match="is not word/tag"):
        join_words(f"充满/v  {token}")


def test_a_title_after_running_text_begins_a_document() -> None:
    assert group("标题一", "本报记者甲", "正文。", "标题二", "正文。（乙摄）") == [
        "标题一|本报记者甲|正文。",
        "标题二|正文。（乙摄）",
    ]


def test_a_blank_line_begins_a_document() -> None:
    assert group("一。", "", "二。", "三。", "", "") == ["一。", "二。|三。"]


@pytest.mark.parametrize("line", ["（新华社记者摄）", "他说：“好。”", "谢谢！（完）", "题" * 41])
def test_notes_sentences_and_long_lines_are_no_titles(line: str) -> None:
    assert group("题", "文。", line) == [f"题|文。|{line}"]


@pytest.mark.parametrize("line", ["天气（图片）", "消除『过结』", "我国将建联盟"])
def test_a_title_may_end_in_a_note_or_a_quotation(line: str) -> None:
    assert group("题", "文。", line, "文。") == ["题|文。", f"{line}|文。"]
