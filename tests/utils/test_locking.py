"""Locks: one process per folder, nothing left behind."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest

from mvdiff.errors import InputError, MvdiffError
from mvdiff.utils.files import write_text
from mvdiff.utils.locking import exclusive_lock, file_lock

HOLDER = """
import sys, time
from pathlib import Path
from mvdiff.utils.locking import exclusive_lock
with exclusive_lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.mark.skipif(os.name != "posix", reason="locks as on Unix")
def test_a_folder_is_held_by_one_process_until_it_ends_or_is_killed(tmp_path):
    folder = tmp_path / "new" / "run"
    command = [sys.executable, "-c", HOLDER, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline() == "held\n"
            sentence = f"another process is working on '{folder}': wait for it, or choose"
            with pytest.raises(MvdiffError, match=sentence), exclusive_lock(folder):
                pytest.fail("two hold the same folder")
            with exclusive_lock(tmp_path / "other"):
                pass
        finally:
            process.kill()
            process.wait(timeout=20)
    for _ in range(2):
        with exclusive_lock(folder):
            assert folder.is_dir()


@pytest.mark.skipif(os.name != "posix", reason="locks as on Unix")
def test_a_folder_without_locks_is_used_all_the_same(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", refuse)
    with exclusive_lock(tmp_path):
        write_text(tmp_path / "x.txt", "text")
    assert (tmp_path / "x.txt").read_text() == "text"


@pytest.mark.skipif(os.name != "posix", reason="links as on Unix")
def test_a_lock_that_is_a_link_is_rejected_and_its_target_kept(tmp_path):
    target = tmp_path / "precious.txt"
    target.write_text("keep me")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".lock").symlink_to(target)
    with (
        pytest.raises(MvdiffError, match=r"cannot lock .*\.lock"),
        exclusive_lock(tmp_path / "run"),
    ):
        pytest.fail("a linked lock was opened")
    assert target.read_text() == "keep me"


def test_a_lock_leaves_nothing_behind(tmp_path):
    folder = tmp_path / "new" / "x"
    with (
        exclusive_lock(folder),
        pytest.raises(InputError, match="another process"),
        exclusive_lock(folder),
    ):
        pass
    assert not list(tmp_path.iterdir()), "neither the folder nor the one around it, both made here"
    folder.mkdir(parents=True)
    with exclusive_lock(folder):
        pass
    assert folder.is_dir(), "a folder that was there stays"
    (folder / "kept").write_text("")
    (folder / ".lock").write_text("left by a process that was killed")
    with exclusive_lock(folder):
        assert (folder / ".lock").exists()
    assert os.listdir(folder) == ["kept"]


def test_a_folder_that_its_last_holder_removes_meanwhile_is_taken(tmp_path, monkeypatch):
    folder, make, removed = tmp_path / "x", Path.mkdir, []

    def racing(self, *args, **kwargs):
        make(self, *args, **kwargs)
        if not removed:
            removed.append(self)
            self.rmdir()

    monkeypatch.setattr(Path, "mkdir", racing)
    with exclusive_lock(folder):
        assert (folder / ".lock").exists()
    assert removed == [folder]
    assert not folder.exists()


def test_another_thread_may_release(tmp_path):
    held = ExitStack()
    taker = threading.Thread(target=lambda: held.enter_context(exclusive_lock(tmp_path)))
    taker.start()
    taker.join()
    with pytest.raises(InputError, match="another process"), exclusive_lock(tmp_path):
        pass
    held.close()
    with exclusive_lock(tmp_path):
        pass


def test_processes_that_take_turns_never_overlap(tmp_path):
    """Each adds one to a number ten times, in a folder that they make and remove."""
    script = """
import sys, time
from pathlib import Path
from mvdiff.errors import InputError
from mvdiff.utils.locking import exclusive_lock, file_lock
root, number = Path(sys.argv[1]), Path(sys.argv[1]) / "number"
done = 0
while done < 10:
    try:
        with exclusive_lock(root / "held"), file_lock(root / "inner"):
            count = int(number.read_text())
            time.sleep(0.002)
            number.write_text(str(count + 1))
        done += 1
    except InputError:
        pass
"""
    (tmp_path / "number").write_text("0")
    processes = [subprocess.Popen([sys.executable, "-c", script, str(tmp_path)]) for _ in range(3)]
    try:
        assert [process.wait(timeout=60) for process in processes] == [0, 0, 0]
    finally:
        for process in processes:
            process.kill()
    assert (tmp_path / "number").read_text() == "30"
    assert not list(tmp_path.rglob("*lock"))


def test_a_file_is_waited_for_and_gone_afterwards(tmp_path):
    path, entered = tmp_path / "x.lock", threading.Event()

    def waiter():
        with file_lock(path):
            entered.set()

    with file_lock(path):
        thread = threading.Thread(target=waiter)
        thread.start()
        assert not entered.wait(0.3)
    thread.join(20)
    assert entered.is_set()
    assert not list(tmp_path.iterdir())
    with file_lock(tmp_path / "no folder" / "x" / "y.lock"):
        pass
