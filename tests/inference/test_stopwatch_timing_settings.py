"""The settings of inference time: what they take, and what they say of what they don't."""

import pytest

from rankdistil.inference.stopwatch import TimingSettings

PLAIN = {
    "queries": 4, "candidates": [100], "throughput_pairs": 200, "rounds": 3, "seconds": 45, "warmup": 1, "busy_share": 0.1,
    "dtypes": ["float32"], "backends": ["torch"],
}  # fmt: skip


def test_a_single_value_is_a_list_of_one() -> None:
    assert TimingSettings(**PLAIN | {"candidates": 100, "dtypes": "float32", "backends": "torch"}) == TimingSettings(**PLAIN)


def test_every_backend_is_timed_in_every_dtype() -> None:
    found = TimingSettings(**PLAIN | {"backends": ["torch", "onnx"], "dtypes": ["float32", "int8"]}).variants
    assert found == [("torch", "float32"), ("torch", "int8"), ("onnx", "float32"), ("onnx", "int8")]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("queries", 0, "queries is 0; expected a whole number of at least 1."),
        ("rounds", True, "rounds is True; expected a whole number of at least 1."),
        ("warmup", -1, "warmup is -1; expected a whole number of at least 0."),
        ("seconds", 0, "seconds is 0; expected a number above 0 and at most 86400."),
        ("seconds", float("nan"), "seconds is nan; expected a number above 0 and at most 86400."),
        ("busy_share", 10, "busy_share is 10; expected a number above 0 and at most 1."),
        ("busy_share", True, "busy_share is True; expected a number above 0 and at most 1."),
        ("throughput_pairs", 0.5, "throughput_pairs is 0.5; expected a whole number of at least 0."),
        ("candidates", [100, "all"], "candidates is all; expected a whole number of at least 1."),
        ("candidates", [], "candidates is empty; name at least one."),
        ("candidates", [10, 10], "candidates names 10 twice; name it once."),
        ("dtypes", ["float32", "float16"], "dtypes names 'float16'; expected some of float32, bfloat16, int8."),
        ("dtypes", "int8,int8", "dtypes names 'int8,int8'; expected some of float32, bfloat16, int8."),
        ("backends", ["tensorrt"], "backends names 'tensorrt'; expected some of torch, onnx, openvino."),
    ],
)
def test_a_wrong_value_is_answered_by_its_key(name: str, value: object, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        TimingSettings(**PLAIN | {name: value})
    assert str(caught.value) == f"callbacks.inference_time.{message}"
