"""New pieces: what they stand for, how the base spells them, what made them."""

from pathlib import Path

import numpy as np
import pytest
from byte_tokenizers import byte_level, spell, without_bytes
from expandable import BYTES_SIZE, SIZE, extended_bytes_folder, extended_folder
from extended_tokenizers import BASE_RULES, extended, write_bytes_file, write_folder, write_model
from small_tokenizers import build

from lingraft.bases import read_base
from lingraft.embed.added import read_added
from lingraft.errors import InputError
from lingraft.tokenizer.extending import extend

SHAN, BIAN = "嬗".encode(), "变".encode()


def ids_of(data: bytes) -> tuple[int, ...]:
    return tuple(3 + byte for byte in data)  # behind <unk>, <s> and </s>


@pytest.mark.parametrize("file", ["tokenizer.model", "tokenizer.json"])
def test_sentencepiece_pieces_are_spelled_alone(tmp_path: Path, file: str) -> None:
    base = read_base(str(write_folder(tmp_path / "base", build()) / file))
    longer = read_base(str(extended_folder(tmp_path / "extended") / file))
    added = read_added(base, longer, bos_id=1)
    assert (added.num_base, len(added), added.num_extended) == (SIZE, 4, SIZE + 4)
    assert added.texts == ["嬗", "变", "嬗变", "变嬗"]
    assert added.pieces == [SHAN, BIAN, SHAN + BIAN, BIAN + SHAN]
    assert added.spellings[0] == ids_of(SHAN)
    assert added.spellings[3] == ids_of(BIAN + SHAN)
    assert added.kinds == ["spelled"] * 4
    assert added.parents == [None, None, (SIZE, SIZE + 1), (SIZE + 1, SIZE)]
    prefix = base.find_piece("▁")
    assert added.text_spellings[0] == (1, prefix, *ids_of(SHAN))
    assert added.base_pieces[3 + 0xE5] == b"\xe5"
    assert added.shown(2) == "嬗变"


def test_byte_level_pieces_may_be_parts_of_characters(tmp_path: Path) -> None:
    write_bytes_file(tmp_path / "base", BASE_RULES)
    base = read_base(str(tmp_path / "base"))
    longer = read_base(str(extended_bytes_folder(tmp_path / "extended")))
    added = read_added(base, longer)
    zhong, wen = "中".encode(), "文".encode()
    assert added.pieces == [zhong, wen[:2], wen, zhong + wen]
    # The base joins the first two bytes of 中 (its rule 0), and nothing of 文.
    assert added.spellings == [
        (256, zhong[2]),
        (wen[0], wen[1]),
        tuple(wen),
        (256, zhong[2], *wen),
    ]
    assert added.parents == [
        (256, zhong[2]),
        (wen[0], wen[1]),
        (BYTES_SIZE + 1, wen[2]),
        (BYTES_SIZE, BYTES_SIZE + 2),
    ]
    assert added.text_spellings == added.spellings
    assert added.shown(1) == spell(wen[:2])


def test_special_and_known_pieces_have_kinds_of_their_own(tmp_path: Path) -> None:
    write_bytes_file(tmp_path / "base", [])

    def with_tokens(spec: dict) -> None:  # type: ignore[type-arg]
        flags = {"lstrip": False, "rstrip": False, "normalized": False, "single_word": False}
        spec["added_tokens"] = [
            {"id": 256, "content": "<end>", "special": True, **flags},
            {"id": 257, "content": "é", "special": False, **flags},
            {"id": 258, "content": "a", "special": False, **flags},
        ]

    write_bytes_file(tmp_path / "extended", [], with_tokens)
    added = read_added(read_base(str(tmp_path / "base")), read_base(str(tmp_path / "extended")))
    assert added.kinds == ["special", "spelled", "copied"]
    assert added.spellings == [(), (0xC3, 0xA9), (ord("a"),)]
    assert added.parents == [None, None, None]


def test_bytes_that_the_base_lacks_have_a_kind_of_their_own(tmp_path: Path) -> None:
    base = read_base(
        str(write_bytes_file(tmp_path / "base", [], lambda s: s.update(without_bytes(s, b"\xac"))))
    )
    (tmp_path / "pieces.txt").write_text('"<0xE5><0xAC>"\n嬗\n"<0xE5><0xB6>"\n', encoding="utf-8")
    made = extend(base=tmp_path / "base", pieces=tmp_path / "pieces.txt", out=tmp_path / "extended")
    added = read_added(base, read_base(str(made.folder)))
    assert added.pieces == [b"\xac", b"\xe5\xac", SHAN, b"\xe5\xb6"]
    assert added.kinds == ["byte", "unspellable", "unspellable", "spelled"]
    assert added.spellings == added.text_spellings == [(), (), (), (0xE5, 0xB6)]
    assert added.byte_ids == [id for id in range(256) if id != 0xAC]


def test_a_text_that_no_base_id_spells_is_unspellable(tmp_path: Path) -> None:
    base = read_base(str(write_model(tmp_path / "base", build())))
    longer = read_base(str(write_model(tmp_path / "extended", extended())))

    def fail(piece: str) -> list[int]:
        raise InputError("a character is unknown")

    base.pieces.spell = fail  # type: ignore[attr-defined]
    added = read_added(base, longer)
    assert added.kinds == ["unspellable"] * 4
    assert added.spellings == added.text_spellings == [()] * 4


def test_counts_must_be_those_of_all_ids(tmp_path: Path) -> None:
    base = read_base(str(write_model(tmp_path / "base", build())))
    longer = read_base(str(write_model(tmp_path / "extended", extended())))
    added = read_added(base, longer, counts=np.arange(SIZE + 4))
    assert added.counts is not None
    assert added.counts[-1] == SIZE + 3
    with pytest.raises(InputError, match="They would be the counts of other pieces"):
        read_added(base, longer, counts=np.arange(SIZE))


def test_another_base_is_refused_with_the_first_piece_that_differs(tmp_path: Path) -> None:
    other = [("▁▁", -1e9), ("xy", -1.0), *(("▁", -9.0), ("x", -10.0), ("y", -11.0))]
    base = read_base(str(write_model(tmp_path / "base", build(other))))
    longer = read_base(str(write_model(tmp_path / "extended", extended())))
    with pytest.raises(InputError, match=r"id 260 is 'ab'; .* it is 'xy'"):
        read_added(base, longer)


def test_a_smaller_tokenizer_and_one_of_another_family_are_refused(tmp_path: Path) -> None:
    base = read_base(str(write_model(tmp_path / "base", extended())))
    with pytest.raises(InputError, match="fewer than its base's"):
        read_added(base, read_base(str(write_model(tmp_path / "small", build()))))
    with pytest.raises(InputError, match="a byte-level tokenizer; its base"):
        read_added(base, read_base(str(write_bytes_file(tmp_path / "bytes", [(b"a", b"b")]))))


def test_rules_that_end_elsewhere_give_no_parents(tmp_path: Path) -> None:
    write_bytes_file(tmp_path / "base", [(b"a", b"b")])
    spec = byte_level([(b"a", b"b")])
    # "abc" by the rule (a, bc), which can never be the last: ab is joined first.
    spec["model"]["vocab"] |= {"bc": 257, "abc": 258}
    spec["model"]["merges"] += [["b", "c"], ["a", "bc"]]
    write_bytes_file(tmp_path / "extended", [], lambda s: s.update(spec))
    added = read_added(read_base(str(tmp_path / "base")), read_base(str(tmp_path / "extended")))
    assert added.parents == [(ord("b"), ord("c")), None]
