"""``edge_van.checkpoint.training_state``: what is kept comes back, nothing in a file is executed."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch

from edge_van.checkpoint.training_state import load_training_state, save_training_state, training_states
from edge_van.errors import BundleError, CheckpointError, UsageError


def test_what_is_kept_comes_back(tmp_path: Path) -> None:
    network = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(network.parameters())
    network(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    state = {"step": 7, "network": network.state_dict(), "optimizer": optimizer.state_dict(), "curve": [{"loss": 0.5}]}
    save_training_state(tmp_path / "s", "key", state)
    found = load_training_state(tmp_path / "s", "key")
    assert found is not None
    assert (found["step"], found["curve"]) == (7, [{"loss": 0.5}])
    assert torch.equal(found["network"]["weight"], network.weight)
    assert torch.equal(found["optimizer"]["state"][0]["exp_avg"], optimizer.state_dict()["state"][0]["exp_avg"])
    with pytest.raises(UsageError, match="delete it to start anew, or give another --output"):
        load_training_state(tmp_path / "s", "another key")
    assert load_training_state(tmp_path / "none", "key") is None


class Harmful:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path, ("/tmp/x",)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no archive", pickle.dumps(Harmful()), pickle.dumps({"a": 1})])
def test_what_is_no_state_is_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "s").write_bytes(content)
    with pytest.raises(CheckpointError, match="delete it to start anew") as caught:
        load_training_state(tmp_path / "s", "key")
    assert "\n" not in str(caught.value)


def test_nothing_in_a_file_is_executed(tmp_path: Path) -> None:
    torch.save({"key": "key", "state": {"a": Harmful()}}, tmp_path / "s")
    with pytest.raises(CheckpointError, match="UnpicklingError"):
        load_training_state(tmp_path / "s", "key")


def test_a_full_disk_leaves_the_state_of_before(small_disk: Path) -> None:
    save_training_state(small_disk / "s", "key", {"step": 1})
    with pytest.raises(BundleError, match="free some space"):
        save_training_state(small_disk / "s", "key", {"step": 2, "network": torch.zeros(100_000)})
    assert load_training_state(small_disk / "s", "key") == {"step": 1}


def test_the_folder_is_one_commands_and_goes_when_all_went_well(tmp_path: Path) -> None:
    output = tmp_path / "van.safetensors"
    folder = tmp_path / ".van.safetensors.training"

    def stopped() -> None:
        with training_states(output):
            save_training_state(folder / "s.pt", "key", {"step": 1})
            with pytest.raises(UsageError, match="another command trains for"), training_states(output):
                pass
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert (folder / "s.pt").exists()
    with training_states(output):
        load_training_state(folder / "s.pt", "key")
        (folder / "mine").write_text("not a state")
    assert [path.name for path in folder.iterdir()] == ["mine"]
    (folder / "mine").unlink()
    with training_states(output):
        pass
    assert list(tmp_path.iterdir()) == []


def test_what_another_training_left_stays_until_that_goes_on(tmp_path: Path) -> None:
    output, folder = tmp_path / "b", tmp_path / ".b.training"

    def stopped() -> None:
        with training_states(output):
            save_training_state(folder / "qat.pt", "key", {"step": 1})
            (folder / "trials-killed").mkdir()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    with training_states(output):
        assert not (folder / "trials-killed").exists()
        save_training_state(folder / "mine.pt", "other key", {"step": 2})
    assert sorted(path.name for path in folder.iterdir()) == ["lock", "qat.pt"]
    with pytest.raises(UsageError, match="another"), training_states(output):
        load_training_state(folder / "qat.pt", "another key")
    with training_states(output):
        assert load_training_state(folder / "qat.pt", "key") == {"step": 1}
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BundleError, match="cannot be written"), training_states(tmp_path / "file" / "van.safetensors"):
        pass
