from __future__ import annotations

import pickle

import pytest

from nodeagent.proxy.frames import LENGTH, FrameError, decode_report, encode_command, encode_report, split_frames


def test_frames_split_at_every_byte_come_out_whole() -> None:
    stream = encode_report({"op": "ready"}) + encode_report({"op": "applied", "generation": 7})
    buffer, found = bytearray(), []
    for byte in stream:
        buffer.append(byte)
        found += split_frames(buffer)
    assert [decode_report(frame) for frame in found] == [{"op": "ready"}, {"op": "applied", "generation": 7}]
    assert not buffer


def test_a_command_is_a_pickle_behind_its_length() -> None:
    frame = encode_command("observe", True)
    (length,) = LENGTH.unpack_from(frame)
    assert length == len(frame) - LENGTH.size
    assert pickle.loads(frame[LENGTH.size :]) == ("observe", True)


def test_an_oversized_frame_breaks_the_channel_before_it_is_read() -> None:
    with pytest.raises(FrameError, match="limit is 10"):
        split_frames(bytearray(LENGTH.pack(11)), limit=10)


@pytest.mark.parametrize("frame", [b"\x80\x05.", b"[]", b'{"kind": 1}', b'{"op": 1}'])
def test_a_report_that_is_not_ours_is_refused(frame: bytes) -> None:
    with pytest.raises(FrameError):
        decode_report(frame)
