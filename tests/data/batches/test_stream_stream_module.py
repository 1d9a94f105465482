"""The position in the stream, as checkpoints keep it."""

import pytest

from rankdistil.data.batches.stream import StreamDataModule


def test_a_position_goes_on_where_it_was_saved() -> None:
    before, after = StreamDataModule(workers=0), StreamDataModule(workers=0)
    before.trained_batches = 7
    after.load_state_dict(before.state_dict())
    assert after.trained_batches == 7


@pytest.mark.parametrize(("processes", "accumulated"), [(2, 1), (1, 4)])
def test_a_position_of_other_processes_or_accumulated_batches_is_refused(processes: int, accumulated: int) -> None:
    """``trainer.devices=-1`` is the same setting on a machine with more of them."""
    saved = {"trained_batches": 7, "processes": processes, "accumulated": accumulated}
    with pytest.raises(ValueError) as error:
        StreamDataModule(workers=0).load_state_dict(saved)
    assert str(error.value) == (
        f"the checkpoint was saved by {processes} processes with {accumulated} accumulated batches, and 1 processes with 1 "
        "accumulated batches would continue it: not the same batches. Continue with trainer.devices x trainer.num_nodes = "
        f"{processes} and trainer.accumulate_grad_batches={accumulated}, or start again in another folder."
    )
