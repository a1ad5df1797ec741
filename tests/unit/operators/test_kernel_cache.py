"""Compiled code of another version is never run."""

from __future__ import annotations

import numba
import pytest

from operators.kernel_cache import use_kernel_cache


@pytest.fixture
def kernels(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack" / "inner.py").write_text("@njit\ndef f(): return 1\n")
    (tmp_path / "pack" / "plain.py").write_text("x = 1\n")
    return tmp_path


def test_kernel_cache_same_source_same_folder(kernels):
    first = use_kernel_cache(kernels, ("pack",))
    assert use_kernel_cache(kernels, ("pack",)) == first
    assert str(first) == numba.config.CACHE_DIR


def test_kernel_cache_changed_kernel_gets_another_folder(kernels):
    first = use_kernel_cache(kernels, ("pack",))
    (kernels / "pack" / "inner.py").write_text("@njit\ndef f(): return 2\n")
    assert use_kernel_cache(kernels, ("pack",)) != first


def test_kernel_cache_changed_file_without_kernel_keeps_the_folder(kernels):
    first = use_kernel_cache(kernels, ("pack",))
    (kernels / "pack" / "plain.py").write_text("x = 2\n")
    assert use_kernel_cache(kernels, ("pack",)) == first


def test_kernel_cache_old_folders_are_removed(kernels):
    for version in range(6):
        (kernels / "pack" / "inner.py").write_text(f"@njit\ndef f(): return {version}\n")
        folder = use_kernel_cache(kernels, ("pack",))
    assert len(list(folder.parent.iterdir())) == 3
    assert folder.is_dir()


def test_kernel_cache_named_by_the_user_is_left_alone(kernels, monkeypatch):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(kernels / "own"))
    assert use_kernel_cache(kernels, ("pack",)) is None


def test_kernel_cache_without_a_writable_home_is_left_to_numba(kernels, monkeypatch):
    (kernels / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(kernels / "file"))
    assert use_kernel_cache(kernels, ("pack",)) is None
