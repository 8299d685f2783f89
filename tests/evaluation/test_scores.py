"""Score files: what went in comes out, and what is broken is named."""

import json

import pytest
import torch
from torch import nn

from bdlib.corpus import Batch
from bdlib.errors import InputError
from bdlib.evaluation.scores import read, score

CLASSES = ("left", "no", "yes")


class Echo(nn.Module):
    """Logits are the first samples; in training mode they would be zero."""

    def forward(self, wavs, lens):
        return wavs[:, : len(CLASSES)] * (not self.training)

    def suspicion(self, wavs, lens):
        return None


class Judge(Echo):
    """Finds loud clips suspicious."""

    def suspicion(self, wavs, lens):
        return wavs.abs().amax(1)


def batches():
    yield Batch(["a", "b"], torch.tensor([[0.1, 0.7, 0.2], [3.0, -1, 2]]), torch.ones(2), None)
    yield Batch(["no/c"], torch.tensor([[-5.123456, -4, -0.5]]), torch.ones(1), None)


def test_round_trip(tmp_path):
    path = tmp_path / "deep" / "clean.jsonl"
    written = score(Echo().train(), batches(), CLASSES, path)
    scored = read(path)
    assert scored.equals(written)
    assert scored["predicted"].to_dict() == {"a": "no", "b": "left", "no/c": "yes"}
    assert scored.loc["no/c", "logits"] == [-5.12346, -4.0, -0.5]
    first = json.loads(path.read_text().splitlines()[0])
    assert set(first) == {"ID", "predicted", "logits"}


def test_suspicions_are_kept_where_there_are_any(tmp_path):
    scored = score(Judge(), batches(), CLASSES, tmp_path / "s.jsonl")
    assert scored["suspicion"].round(5).to_dict() == {"a": 0.7, "b": 3.0, "no/c": 5.12346}
    lines = (tmp_path / "s.jsonl").read_text().splitlines()
    (tmp_path / "s.jsonl").write_text("\n".join([lines[0], lines[1].partition(', "susp')[0] + "}"]))
    with pytest.raises(InputError, match=r"row 2: broken; delete the file"):
        read(tmp_path / "s.jsonl")


def test_numeric_names_stay_text(tmp_path):
    batch = Batch(["0011", "12"], torch.eye(3)[:2], torch.ones(2), None)
    scored = score(Echo(), [batch], ("0001", "0002", "0003"), tmp_path / "s.jsonl")
    assert list(scored.index) == ["0011", "12"]
    assert list(scored["predicted"]) == ["0001", "0002"]


def test_interrupted_scoring_leaves_no_file(tmp_path):
    def breaks():
        yield from batches()
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError):
        score(Echo(), breaks(), CLASSES, tmp_path / "s.jsonl")
    assert list(tmp_path.iterdir()) == []


def test_missing_file_names_the_stage(tmp_path):
    with pytest.raises(InputError, match=r"none\.jsonl.*run the score stage"):
        read(tmp_path / "none.jsonl")


@pytest.mark.parametrize("text", ['{"ID": "a", "predicted"', "not json\n", "\xff\n"])
def test_broken_file_says_to_delete_it(tmp_path, text):
    path = tmp_path / "s.jsonl"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match=r"s\.jsonl.*broken.*delete .*run the score stage"):
        read(path)
