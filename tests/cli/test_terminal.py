"""However a command ends, it says one sentence, gives the right exit code, and lets no name steer the terminal."""

import errno
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from madlab.cli import terminal
from madlab.cli.terminal import Stopped, ending, stopped_by_signals, tell, wait_for
from madlab.errors import MadlabError, printable

HOSTILE = {
    "\x1b[31mred": r"\x1b[31mred",
    "\x1b]0;title\x07": r"\x1b]0;title\x07",
    "\x9b2J": r"\x9b2J",
    "two\nlines\r\n": r"two\nlines\r\n",
    "a\u202egpj.exe": r"a\u202egpj.exe",
    "\u2066\u2069\u200f\u061c": r"\u2066\u2069\u200f\u061c",
    "line\u2028separator": r"line\u2028separator",
    "zero\u200bwidth": r"zero\u200bwidth",
    "half\ud800a pair": r"half\ud800a pair",
    "tag\U000e0041": r"tag\U000e0041",
    "\0\x08\x7f": r"\x00\x08\x7f",
}
HARMLESS = ["plain", "with space", "Grüße", "日本", "🙂", r"C:\new\x1b", "a 'quote'", ""]


@pytest.mark.parametrize("text", HOSTILE)
def test_what_steers_a_terminal_is_escaped(text):
    assert printable(text) == HOSTILE[text]
    assert printable(printable(text)) == printable(text)
    assert str(MadlabError(f"There is no {text}.")) == f"There is no {HOSTILE[text]}."


def test_what_can_be_read_stays():
    for text in HARMLESS:
        assert printable(text) == text
        assert str(MadlabError(text)) == text


def test_an_error_of_several_lines_keeps_its_own_breaks_only():
    error = MadlabError("of 2 runs these failed:", "  a\nb: \x1b[2J", "  c: d")
    assert str(error) == "of 2 runs these failed:\n  a\\nb: \\x1b[2J\n  c: d"
    assert str(pickle.loads(pickle.dumps(error))) == str(error)  # as it comes from a worker process
    assert str(MadlabError()) == ""


def test_tell_writes_lines(capsys):
    tell("one\x1b", "two\nlines", "Grüße")
    assert capsys.readouterr().out == "one\\x1b\ntwo\\nlines\nGrüße\n"


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (MadlabError("rank 0", "  b\n"), 2, "madlab: rank 0\n  b\\n\n"),
        (KeyboardInterrupt(), 130, f"madlab: {terminal.STOPPED}\n"),
        (Stopped(signal.SIGTERM), 143, f"madlab: {terminal.STOPPED}\n"),
        (Stopped(signal.SIGHUP), 129, f"madlab: {terminal.STOPPED}\n"),
    ],
)
def test_every_early_end_has_its_code_and_its_sentence(error, code, words, capsys):
    with ending() as end:
        raise error
    assert end.code == code and capsys.readouterr().err == words


def test_success_says_nothing_and_defects_pass(capsys):
    with ending() as end:
        tell("done")
    assert end.code == 0 and capsys.readouterr() == ("done\n", "")
    for error in (ZeroDivisionError, FileNotFoundError, SystemExit):
        with pytest.raises(error), ending():
            raise error


def test_what_the_operating_system_has_against_a_place_is_a_sentence(capsys):
    with ending() as end:
        os.stat("/dev/null/runs/config.json")
    told = capsys.readouterr().err
    assert end.code == 2 and told.startswith("madlab: /dev/null/runs/config.json cannot be used (Not a directory): ")
    with ending() as end:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/tmp/x")
    assert end.code == 2 and "free some space" in capsys.readouterr().err


def test_ctrl_c_is_left_to_the_program_that_is_waited_for():
    """JupyterLab asks whether to shut down; only what ends this process is passed on."""
    told = []

    class Lab:
        ends = iter((KeyboardInterrupt(), KeyboardInterrupt(), Stopped(signal.SIGTERM), 0))

        def wait(self):
            end = next(self.ends)
            if isinstance(end, BaseException):
                raise end
            return end

        def terminate(self):
            told.append("terminate")

    with pytest.raises(Stopped):
        wait_for(Lab())
    assert told == ["terminate"]
    Lab.ends = iter((KeyboardInterrupt(), 0))
    assert wait_for(Lab()) == 0


def test_handlers_come_back_and_ignored_signals_stay_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stopped_by_signals():
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
            assert signal.getsignal(signal.SIGTERM) not in (signal.SIG_DFL, signal.SIG_IGN)
            with pytest.raises(Stopped):
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(5)
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_thread_leaves_the_handlers_alone():
    seen = []

    def work():
        with stopped_by_signals():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGTERM)]


PROGRAM = """
import os, sys, time
from madlab.errors import MadlabError
from madlab.cli.terminal import ending, tell

def main():
    with ending() as end:
        try:
            {body}
        finally:
            print("tidied up", file=sys.stderr, flush=True)
    return end.code

sys.exit(main())
"""
FOREVER = "print('ready', flush=True); time.sleep(60)"
MANY = "[{say}('x' * 100) for _ in range(20000)]"


BUFFERED = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}


def hear_signals():
    """A shell starts background jobs with SIGINT ignored, nohup any with SIGHUP, and their children inherit that."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def start(body, *flags, **options):
    return subprocess.Popen(
        [sys.executable, *flags, "-c", PROGRAM.format(body=body)],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=hear_signals,
        **({"stdout": subprocess.PIPE, "env": BUFFERED} | options),
    )


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
def test_signals_end_a_process_with_a_sentence(name, code):
    process = start(FOREVER)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(getattr(signal, name))
    _, said = process.communicate(timeout=30)
    assert process.returncode == code
    assert said == f"tidied up\nmadlab: {terminal.STOPPED}\n"


def test_a_forked_process_ends_by_the_signal_itself():
    program = "import os, time\nfrom madlab.cli.terminal import stopped_by_signals\nwith stopped_by_signals():\n"
    program += (
        "    child = os.fork()\n    if child == 0:\n        print(os.getpid(), flush=True)\n        time.sleep(60)\n"
    )
    program += "    print(os.waitpid(child, 0)[1], flush=True)\n"
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    os.kill(int(process.stdout.readline()), signal.SIGTERM)
    assert process.stdout.readline() == f"{signal.SIGTERM}\n"
    assert process.wait() == 0


@pytest.mark.parametrize("flags", [(), ("-u",)])
@pytest.mark.parametrize("body", [MANY.format(say="tell"), "tell('x')", "print('x')"])
@pytest.mark.parametrize("fate", ["closed", "full"])
def test_a_standard_output_that_takes_nothing(fate, body, flags):
    if fate == "full" and not Path("/dev/full").exists():
        pytest.skip("only Linux has a device that is always full")
    if (fate, body, flags) == ("full", "print('x')", ("-u",)):
        pytest.skip("without a buffer only `tell` can know what failed")
    if fate == "full":
        process = start(body, *flags, stdout=open("/dev/full", "w"))  # noqa: SIM115
    else:
        reader, end = os.pipe()
        os.close(reader)
        process = start(body, *flags, stdout=end)
        os.close(end)
    _, said = process.communicate(timeout=30)
    assert "Traceback" not in said and "Exception ignored" not in said
    if fate == "closed":
        assert (process.returncode, said) == (141, "tidied up\n")
    else:
        assert process.returncode == 1
        assert "madlab: Standard output cannot be written to (No space left on device): free some space" in said


def test_head_gets_its_lines_and_the_rest_ends_quietly():
    process = start(MANY.format(say="print"))
    assert process.stdout.readline() == "x" * 100 + "\n"
    process.stdout.close()
    assert process.stderr.read() == "tidied up\n" and process.wait() == 141


def test_help_for_a_reader_that_has_gone():
    reader, end = os.pipe()
    os.close(reader)
    body = "__import__('argparse').ArgumentParser(description='x' * 1000).parse_args(['--help'])"
    process = start(body, stdout=end)
    os.close(end)
    assert process.stderr.read() == "tidied up\n" and process.wait() == 141


def test_bad_input_keeps_its_code_when_nobody_reads():
    if Path("/dev/full").exists():  # as on Linux
        process = start("print('x'); raise MadlabError('rank 0')", stdout=open("/dev/full", "w"))  # noqa: SIM115
        _, said = process.communicate()
        assert process.returncode == 2 and "madlab: rank 0\n" in said and "Traceback" not in said
    for descriptor in (1, 2):  # closed by who started it
        program = PROGRAM.format(body="tell('x'); raise MadlabError('rank 0')").replace("flush=True", "flush=False")
        program = program.replace('print("tidied', 'sys.stderr and print("tidied')
        ran = subprocess.run(["sh", "-c", f'exec "$0" -c "$1" {descriptor}>&-', sys.executable, program])
        assert ran.returncode == 2


def test_an_encoding_that_lacks_a_letter_is_no_reason_to_fail():
    environment = BUFFERED | {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    process = start("tell('Gr\\u00fc\\u00dfe'); raise MadlabError('\\u65e5')", env=environment)
    out, said = process.communicate()
    assert (out, process.returncode) == ("Gr\\xfc\\xdfe\n", 2)
    assert said.endswith("madlab: \\u65e5\n")
