"""Atomic writes: a file under its final name is always complete."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from mvdiff.errors import MvdiffError
from mvdiff.utils.files import atomic, check_writable, load_json, read_json, write_text


def test_writes_and_makes_folders(tmp_path):
    path = tmp_path / "a" / "b" / "c.txt"
    write_text(path, "größer\n")
    assert path.read_text(encoding="utf-8") == "größer\n"
    assert [p.name for p in path.parent.iterdir()] == ["c.txt"]
    assert path.stat().st_mode & 0o777 == 0o644


def test_the_temporary_name_is_beside_it_and_keeps_the_suffix(tmp_path):
    with atomic(tmp_path / "mesh.glb") as part:
        assert part.suffix == ".glb"
        assert part.parent == tmp_path
        assert not (tmp_path / "mesh.glb").exists()
        part.write_bytes(b"1")
    assert (tmp_path / "mesh.glb").read_bytes() == b"1"


def write_half(path: Path, error: type[BaseException]) -> None:
    with atomic(path) as part:
        part.write_text("half")
        raise error


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_an_exception_inside_leaves_nothing(tmp_path, error):
    with pytest.raises(error):
        write_half(tmp_path / "x.txt", error)
    assert list(tmp_path.iterdir()) == []


def test_an_exception_inside_leaves_the_old_file(tmp_path):
    write_text(tmp_path / "x.txt", "old")
    with pytest.raises(RuntimeError):
        write_half(tmp_path / "x.txt", RuntimeError)
    assert (tmp_path / "x.txt").read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(MvdiffError, match=r"cannot write to '.*file' .*choose another"):
        write_text(tmp_path / "file" / "x.txt", "")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_an_unwritable_folder_is_named(tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(MvdiffError, match=r"cannot write to .*Permission denied"):
            write_text(tmp_path / "x.txt", "")
    finally:
        tmp_path.chmod(0o700)


def test_a_read_only_file_system_is_named(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(Path, "touch", refuse)
    with pytest.raises(MvdiffError, match="Read-only file system"):
        write_text(tmp_path / "x.txt", "")


def test_a_full_disk_is_one_sentence_and_leaves_nothing(tmp_path, monkeypatch):
    def full(self, text, **_):
        self.write_bytes(text[:3].encode())
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(MvdiffError, match=r"No space left on device.*free some space") as caught:
        write_text(tmp_path / "x.txt", "some text")
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform != "linux", reason="limits a file's size as Linux does")
@pytest.mark.parametrize("writer", ["safetensors", "torch"])
def test_a_full_disk_under_the_weights_writers_is_one_sentence(tmp_path, writer):
    code = f"""
import resource, signal, torch
from safetensors.torch import save_file
from mvdiff.utils.files import atomic
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
tensors = {{"a": torch.zeros(100_000)}}
with atomic({str(tmp_path / "w.bin")!r}) as part:
    save_file(tensors, part) if {writer!r} == "safetensors" else torch.save(tensors, part)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"mvdiff.errors.MvdiffError: cannot write '{tmp_path / 'w.bin'}' (")
    assert last.endswith("free some space or choose another output folder")
    assert list(tmp_path.iterdir()) == []


def test_failing_to_rename_leaves_nothing(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(MvdiffError, match="No space left"):
        write_text(tmp_path / "x.txt", "text")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name != "posix", reason="signals as on Unix")
def test_an_interrupted_process_leaves_no_final_name(tmp_path):
    import signal

    script = (
        "import sys, time\nfrom mvdiff.utils.files import atomic\n"
        "with atomic(sys.argv[1]) as part:\n"
        "    part.write_text('half'); print('writing', flush=True); time.sleep(60)\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "x.txt")]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            assert process.stdout.readline() == "writing\n"
            assert [p.name.startswith(".part-") for p in tmp_path.iterdir()] == [True]
            process.send_signal(signal.SIGINT)
            process.wait(timeout=20)
        finally:
            process.kill()
    assert process.returncode != 0
    assert list(tmp_path.iterdir()) == []


def test_readers_see_the_old_file_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "x.txt"
    write_text(path, "old")
    with atomic(path) as part:
        part.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"


@pytest.mark.skipif(os.name != "posix", reason="permissions as on Unix")
@pytest.mark.parametrize("mask", [0o077, 0o002])
def test_new_files_follow_the_umask(tmp_path, mask):
    before = os.umask(mask)
    try:
        write_text(tmp_path / "x.txt", "")
    finally:
        os.umask(before)
    assert (tmp_path / "x.txt").stat().st_mode & 0o777 == 0o666 & ~mask


@pytest.mark.skipif(os.name != "posix", reason="processes as on Unix")
def test_temporary_files_of_killed_processes_are_removed_and_others_kept(tmp_path):
    code = (
        "import os, signal, sys\nfrom mvdiff.utils.files import atomic\n"
        "with atomic(sys.argv[1]) as part:\n    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "x.txt")], check=False)
    (left_behind,) = tmp_path.iterdir()
    own_name = re.sub(r"-\d+-(\w+\.txt)$", rf"-{os.getpid()}-\1", left_behind.name)
    mine = left_behind.with_name(own_name)
    other_host = tmp_path / ".part-elsewhere-1-aa.txt"
    mine.touch()
    other_host.touch()
    write_text(tmp_path / "y.txt", "")
    assert sorted(tmp_path.iterdir()) == sorted([mine, other_host, tmp_path / "y.txt"])


@pytest.mark.parametrize(
    ("content", "fact"),
    [
        (b"\xff\xfe{}", "UTF-8"),
        (b"[1]", "object"),
        (b"[" * 200_000, "nested"),
        (b'{"a": ' + b"9" * 5000 + b"}", "JSON"),
        (b"{", "JSON"),
    ],
)
def test_unusable_json_is_one_error(tmp_path, content, fact):
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(MvdiffError, match=fact):
        load_json(path, dict)
    assert read_json(path, dict) is None


def test_a_byte_order_mark_is_skipped(tmp_path):
    path = tmp_path / "x.json"
    path.write_bytes(b"\xef\xbb\xbf" + b'{"a": 1}')
    assert load_json(path, dict) == {"a": 1}


def test_names_with_a_null_character_are_refused(tmp_path):
    with pytest.raises(MvdiffError, match="null character"), atomic(tmp_path / "a\0.png"):
        pass
    assert not list(tmp_path.iterdir())


def test_the_check_of_a_folder_leaves_nothing(tmp_path):
    check_writable(tmp_path / "new" / "folder")
    assert not list(tmp_path.iterdir())
    (tmp_path / "old").mkdir()
    check_writable(tmp_path / "old")
    assert not list((tmp_path / "old").iterdir())


def test_a_folder_that_another_process_removes_meanwhile_is_made_again(tmp_path, monkeypatch):
    """Between the making of the folder and that of the file, as `exclusive_lock` removes it."""
    make, removed = Path.mkdir, []

    def racing(self, *args, **kwargs):
        make(self, *args, **kwargs)
        if not removed:
            removed.append(self)
            self.rmdir()

    monkeypatch.setattr(Path, "mkdir", racing)
    write_text(tmp_path / "a" / "x.txt", "text")
    assert (tmp_path / "a" / "x.txt").read_text() == "text"
