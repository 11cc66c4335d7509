"""Checkpoints: whole or not there, and told when they are neither."""

import os

import pytest
import tensorflow as tf

from mp3net.errors import UserError
from mp3net.training import checkpoints


def items(value=0.0, size=3):
    return {"weights": tf.Module(), "value": tf.Variable([value] * size)}


def save(workdir, step, value=1.0):
    return checkpoints.save(workdir, step, items(value), {"system": "any"}, "a = 1", {"sums": {"loss": 0.1 + 0.2}})


def test_what_was_saved_comes_back_to_the_bit(tmp_path):
    save(tmp_path, 4, 0.1)
    found, blank = checkpoints.latest(tmp_path), items()
    found.restore(blank)
    assert blank["value"].numpy().tolist() == tf.constant([0.1] * 3).numpy().tolist()
    assert (found.step, found.configuration, found.architecture) == (4, "a = 1", {"system": "any"})
    assert found.host_state == {"sums": {"loss": 0.1 + 0.2}}


def test_the_newest_whole_one_counts(tmp_path):
    for step in (4, 100, 20):
        save(tmp_path, step)
    half = tmp_path / "checkpoints" / "00000200"
    half.mkdir()
    (half / "weights.index").write_text("half")
    assert checkpoints.latest(tmp_path).step == 100
    assert checkpoints.find(tmp_path).step == 100
    assert checkpoints.find(f"{tmp_path}/checkpoints/00000020/").step == 20
    checkpoints.keep_last(tmp_path, 2)
    assert sorted(os.listdir(tmp_path / "checkpoints")) == ["00000020", "00000100"]


def test_a_save_that_fails_leaves_the_one_before_and_nothing_of_itself(tmp_path, monkeypatch):
    save(tmp_path, 4)

    def full(*_, **__):
        raise tf.errors.ResourceExhaustedError(None, None, "No space left on device")

    monkeypatch.setattr(tf.train.Checkpoint, "write", full)
    with pytest.raises(UserError, match="step 8 could not be written.*No space left"):
        save(tmp_path, 8)
    assert os.listdir(tmp_path / "checkpoints") == ["00000004"]
    assert checkpoints.latest(tmp_path).step == 4


def interrupt(*_, **__):
    raise KeyboardInterrupt


def test_a_save_killed_before_its_last_file_is_none(tmp_path, monkeypatch):
    save(tmp_path, 4)
    monkeypatch.setattr(tf.io.gfile, "rename", interrupt)
    with pytest.raises(KeyboardInterrupt):
        save(tmp_path, 8)
    monkeypatch.undo()
    assert checkpoints.latest(tmp_path).step == 4
    save(tmp_path, 8)  # over the remains
    assert checkpoints.latest(tmp_path).step == 8


@pytest.mark.parametrize("file", ["weights.data-00000-of-00001", "architecture.json"])
@pytest.mark.parametrize("harm", ["cut", "removed"])
def test_missing_and_shortened_files_are_told_with_the_one_before(tmp_path, file, harm):
    save(tmp_path, 4)
    path = os.path.join(save(tmp_path, 8), file)
    if harm == "cut":
        os.truncate(path, os.path.getsize(path) - 2)
    else:
        os.remove(path)
    with pytest.raises(UserError, match=rf"00000008 is damaged: {file}.*go on from .*00000004"):
        checkpoints.latest(tmp_path)


def test_changed_bytes_of_the_weights_are_told(tmp_path):
    path = os.path.join(save(tmp_path, 4), "weights.data-00000-of-00001")
    with open(path, "rb") as file:
        data = bytearray(file.read())
    place = bytes(data).index(tf.constant([1.0] * 3).numpy().tobytes())
    data[place] ^= 0xFF
    with open(path, "wb") as file:
        file.write(data)
    with pytest.raises(UserError, match="00000004 does not fit: it is damaged"):
        checkpoints.latest(tmp_path).restore(items())


def test_another_shape_and_another_item_are_told(tmp_path):
    save(tmp_path, 4)
    for wrong in (items(size=4), {"other": tf.Variable(1.0)}):
        with pytest.raises(UserError, match="does not fit"):
            checkpoints.latest(tmp_path).restore(wrong)


@pytest.mark.parametrize(
    "text",
    ["{", "[]", '{"step": 8, "host_state": null, "sizes": {}}', '{"step": 1e400, "host_state": {}, "sizes": {}}'],
)
def test_a_damaged_state_file_is_told_and_an_old_one_stands_in_nobodys_way(tmp_path, text):
    old = save(tmp_path, 4)
    with open(os.path.join(save(tmp_path, 8), "state.json"), "w") as file:
        file.write(text)
    with pytest.raises(UserError, match=r"00000008.*state\.json is damaged"):
        checkpoints.latest(tmp_path)
    save(tmp_path, 12)
    assert checkpoints.latest(tmp_path).step == 12
    assert [each.step for each in checkpoints.every(tmp_path)] == [4, 12] and os.path.isdir(old)


def test_where_there_is_no_checkpoint_it_is_told(tmp_path):
    assert checkpoints.latest(tmp_path) is None
    with pytest.raises(UserError, match="holds no complete checkpoint"):
        checkpoints.find(tmp_path)
    with pytest.raises(UserError, match="does not exist"):
        checkpoints.find(tmp_path / "nowhere")
