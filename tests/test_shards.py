"""Token files: what was written comes back, and what is no token file is refused."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from token_files import token_file, write_folder

from lingraft.errors import InputError
from lingraft.shards import TokenFile, open_folder, open_tokens, token_dtype, write_tokens


def test_documents_come_back_as_they_were_written(tmp_path: Path) -> None:
    assert write_tokens(tmp_path / "a.npy", iter([[1, 2, 3], [], [4]]), 32_000) == (3, 4)
    file = open_tokens(tmp_path / "a.npy")
    assert [file.doc(n).tolist() for n in range(file.num_docs)] == [[1, 2, 3], [], [4]]
    assert file.ids.dtype == np.uint16
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.ends.npy", "a.npy"]


def test_no_documents_make_an_empty_file(tmp_path: Path) -> None:
    assert write_tokens(tmp_path / "a.npy", iter([]), 70_000) == (0, 0)
    assert open_tokens(tmp_path / "a.npy").ids.dtype == np.uint32


@pytest.mark.parametrize(("size", "dtype"), [(65_536, np.uint16), (65_537, np.uint32)])
def test_the_dtype_holds_every_id(size: int, dtype: type) -> None:
    assert token_dtype(size) == dtype


def test_a_missing_token_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a token file"):
        open_tokens(tmp_path / "a.npy")


def test_ends_that_do_not_cover_the_ids_are_refused(tmp_path: Path) -> None:
    write_tokens(tmp_path / "a.npy", iter([[1, 2, 3]]), 100)
    np.save(tmp_path / "a.npy", np.zeros(2, np.uint16))
    with pytest.raises(InputError, match="ends at 3"):
        open_tokens(tmp_path / "a.npy")


def test_a_mapped_file_is_sent_as_its_path(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "tokens", {"a": [[7, 8, 9]] * 5_000})
    sent = pickle.dumps(open_folder(folder).file("a"))
    assert len(sent) < 1_000
    found = pickle.loads(sent)
    assert isinstance(found.ids, np.memmap)
    assert found.doc(4_999).tolist() == [7, 8, 9]
    assert found.sizes_bytes[0] == 9


def test_part_of_a_map_and_ids_in_memory_are_sent_whole(tmp_path: Path) -> None:
    write_tokens(tmp_path / "a.npy", iter([[1, 2, 3], [4]]), 100)
    file = open_tokens(tmp_path / "a.npy")
    part = TokenFile(file.ids[:3], file.ends[:1])
    assert pickle.loads(pickle.dumps(part)).ids.tolist() == [1, 2, 3]
    assert pickle.loads(pickle.dumps(token_file([5, 6]))).doc(0).tolist() == [5, 6]
