"""The position in the stream, as checkpoints keep it."""

import pytest

from rankdistil.data.stream_module import StreamDataModule


def test_a_position_goes_on_where_it_was_saved() -> None:
    before, after = StreamDataModule(workers=0), StreamDataModule(workers=0)
    before.trained_batches = 7
    after.load_state_dict(before.state_dict())
    assert after.trained_batches == 7


def test_a_position_of_another_number_of_processes_is_refused() -> None:
    """``trainer.devices=-1`` is the same setting on a machine with more of them."""
    with pytest.raises(ValueError) as error:
        StreamDataModule(workers=0).load_state_dict({"trained_batches": 7, "processes": 2})
    assert str(error.value) == (
        "the checkpoint was saved by 2 processes, and 1 would continue it: they would train on other batches. Continue with "
        "trainer.devices x trainer.num_nodes = 2, or start again in another folder."
    )
