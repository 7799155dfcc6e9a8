"""`python -m collector movements`: recordings of any make in, CSV out, and one sentence for what cannot be read."""

import gzip
import io
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from benchmarks.live_accuracy import PARIS
from collector.live import command
from collector.live.airfields import load_airfields
from collector.live.movements import MovementDetector
from collector.live.recordings import UnreadableRecordingError, read_recording, resample
from collector.sources.state_vector import Poll
from tests.service_process import ROOT, bare_environment

NOW = 1_700_000_000
OPENSKY = {"time": NOW, "states": [["abcdef", "TEST1", None, NOW, NOW, 2.0, 48.0, 300.0, False]]}
READSB = {"now": NOW + 1, "aircraft": [{"hex": "abcdef", "lat": 48.0, "lon": 2.0, "seen_pos": 0.5, "alt_baro": 900}]}
LINES = b"\n".join(json.dumps(each).encode() for each in (OPENSKY, READSB))


def read(content: bytes) -> list[Poll]:
    """Return the polls of a recording."""
    return list(read_recording(io.BytesIO(content)))


@pytest.mark.parametrize(
    "content",
    [
        LINES,
        LINES + b"\n",
        b"\xef\xbb\xbf" + LINES.replace(b"\n", b"\r\n\r\n"),
        gzip.compress(LINES),
        gzip.compress(LINES[: len(LINES) // 2]) + gzip.compress(LINES[len(LINES) // 2 :]),
        json.dumps([OPENSKY, READSB], indent=1).encode(),
    ],
)
def test_a_recording_is_lines_or_one_document_compressed_or_not(content: bytes) -> None:
    """Both forms may stand in one recording; what it is shows from its content, not from its name."""
    assert [poll.time for poll in read(content)] == [NOW, NOW + 1]
    assert [len(poll.states) for poll in read(content)] == [1, 1]


def test_one_document_over_many_lines_is_one_poll() -> None:
    """As a browser or `jq` saves it."""
    assert [poll.time for poll in read(json.dumps(OPENSKY, indent=2).encode())] == [NOW]


def test_an_empty_recording_has_no_polls() -> None:
    """It is no error: a receiver may have heard nothing."""
    assert read(b"") == read(b"\n\n") == []


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (LINES + b"\nhello", r"^line 3 is no poll: it is no JSON$"),
        (LINES + b'\n{"time": 1}', r'^line 3 is no poll: it has neither "states"'),
        (LINES + b'\n{"time": "x", "states": []}', r'^line 3 is no poll: its member "time" must be'),
        (LINES + b"\nnull", r"^line 3 is no poll"),
        (LINES + b"\n[7]", r"^line 3 is no poll"),
        (b"\x00\xff\xfe binary", r"^line 1 is no poll: it is no JSON$"),
        (b"[" * 100_000, r"^line 1 is no poll: it is no JSON$"),
        (b'{"time": ' + b"9" * 5_000 + b', "states": []}', r"^line 1 is no poll"),
        (gzip.compress(LINES)[:-12], r"^after line \d the compressed data are damaged or cut off$"),
        (b"\x1f\x8bno gzip at all", r"^after line 0 the compressed data are damaged or cut off$"),
    ],
)
def test_what_is_no_recording_is_refused_with_the_line(content: bytes, sentence: str) -> None:
    """One sentence, whatever the bytes are."""
    with pytest.raises(UnreadableRecordingError, match=sentence):
        read(content)


def test_a_recording_is_resampled_to_a_step() -> None:
    """The first poll at or after each multiple of the step."""
    polls = [Poll(NOW + second, []) for second in (0, 10, 20, 35, 40, 50, 60, 61)]
    assert [poll.time - NOW for poll in resample(iter(polls), 20.0)] == [0, 20, 40, 60]


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Run the command within this process; return its status, its output and its standard error."""
    status = command.main(arguments)
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_the_hour_of_paris_is_printed_as_csv(capsys: pytest.CaptureFixture[str]) -> None:
    """A header, one line a movement in the order of their discovery, and a summary on standard error."""
    status, out, err = run(capsys, str(PARIS.polls), "--step", "30", "--airport", "lfpb")
    lines = out.splitlines()
    assert status == 0
    assert lines[0] == "direction,icao24,airport,time,evidence"
    assert len(lines) > 10
    assert all(line.split(",")[2] == "LFPB" for line in lines[1:])
    assert {line.split(",")[0] for line in lines[1:]} == {"dep", "arr"}
    assert "departures and" in err


def test_a_recording_that_ends_in_an_approach_says_so(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """The landing may still become a go-around: it is counted in the summary, and is no movement."""
    polls = gzip.decompress(PARIS.polls.read_bytes()).splitlines(keepends=True)
    detector, cut = MovementDetector(load_airfields()), 0
    for cut, poll in enumerate(read(b"".join(polls[:150])), start=1):
        detector.observe(poll)
        if cut > 60 and detector.count_undecided("LFPG") == 1:
            break
    (tmp_path / "polls").write_bytes(b"".join(polls[:cut]))
    _, out, err = run(capsys, str(tmp_path / "polls"), "--airport", "LFPG")
    _, whole, _ = run(capsys, str(PARIS.polls), "--airport", "LFPG")
    assert whole.startswith(out)
    assert "; 1 approach is not decided: nobody can see yet whether the aircraft went around" in err


def test_a_damaged_recording_ends_with_a_sentence(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Status 2, the file's name and the line, and no stack trace; what was found before is printed."""
    (tmp_path / "polls").write_bytes(LINES + b"\nhello")
    assert run(capsys, str(tmp_path / "polls")) == (
        2, "direction,icao24,airport,time,evidence\n",
        f"movements: {tmp_path}/polls: line 3 is no poll: it is no JSON\n",
    )  # fmt: skip
    status, _, err = run(capsys, str(tmp_path / "none"))
    assert (status, err) == (2, f"movements: {tmp_path}/none: cannot be read: No such file or directory\n")
    status, _, err = run(capsys, str(tmp_path))
    assert status == 2
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((), "the following arguments are required"),
        (("x", "--step", "0"), "'0' is no number of seconds from 1 to 3600"),
        (("x", "--step", "nan"), "'nan' is no number of seconds from 1 to 3600"),
        (("x", "--airport", "XXXX"), "no airport has this ICAO code"),
    ],
)
def test_a_wrong_call_is_answered_with_what_is_wanted(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], sentence: str
) -> None:
    """As all commands do."""
    with pytest.raises(SystemExit) as ended:
        command.main(arguments)
    assert ended.value.code == 2
    assert sentence in capsys.readouterr().err


def test_it_runs_without_settings_from_standard_input_into_a_closed_pipe() -> None:
    """`| head -1` ends it quietly: no settings are asked for, and standard error has its own lines alone."""
    with PARIS.polls.open("rb") as polls, subprocess.Popen(
        [sys.executable, "-m", "collector", "movements", "-"],
        cwd=ROOT, env=bare_environment(), stdin=polls, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"direction,icao24,airport,time,evidence\n"
        process.stdout.close()
        errors = process.stderr.read().decode()
        assert process.wait(timeout=120) == 0
    assert "Traceback" not in errors
    assert all(line.startswith("movements: ") for line in errors.splitlines())


class _Receiver(BaseHTTPRequestHandler):
    """A receiver's web server: the polls of its list, one a request, then an error."""

    polls: Iterator[bytes]

    def do_GET(self) -> None:
        """Answer with the next poll, or with 503 after the last."""
        body = next(self.polls, None)
        self.send_response(503 if body is None else 200)
        self.send_header("Content-Length", str(len(body or b"")))
        self.end_headers()
        self.wfile.write(body or b"")

    def log_message(self, *_: object) -> None:
        """Log nothing."""


def test_an_address_is_polled_until_interrupted(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An answer that is no poll is reported and left out; an interrupt ends with the summary and 130."""
    _Receiver.polls = iter((json.dumps(READSB).encode(), b"<html>", json.dumps(READSB).encode()))
    pauses: list[float] = []

    def interrupt_in_the_end(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", interrupt_in_the_end)
    with ThreadingHTTPServer(("127.0.0.1", 0), _Receiver) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            address = f"http://user:secret@127.0.0.1:{server.server_port}/data/aircraft.json"
            status, _, err = run(capsys, address, "--step", "5")
        finally:
            server.shutdown()
            thread.join()
    assert status == 130
    assert "the address gives no JSON; it is asked again" in err
    assert "the address answers with the status 503, not with a poll; it is asked again" in err
    assert "2 polls from" in err
    assert "1 polls were not later than the one before" in err
    assert "secret" not in err


def test_an_address_that_gives_nothing_at_first_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    """Nobody waits for a mistyped address."""
    status, _, err = run(capsys, "http://127.0.0.1:1/aircraft.json")
    assert (status, err) == (2, "movements: the address cannot be reached, or breaks off\n")
