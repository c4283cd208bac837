"""Builds the compiled kernels, each named here; the build stops when one is missing."""

from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

KERNELS = {
    "agenda": ["agenda.pyx"],
    "attention": ["attention.pyx", "attention_op.c", "attend_4.c", "attend_8.c", "attend_16.c"],
    "drift": ["drift.pyx"],
    "latency": ["latency.pyx"],
    "logits": ["logits.pyx"],
    "ort": ["ort.pyx"],
    "process": ["process.pyx"],
    "slots": ["slots.pyx"],
}

setup(
    ext_modules=cythonize(
        [
            Extension(
                f"anytime.ext.{name}",
                [f"src/anytime/ext/{source}" for source in sources],
                include_dirs=["src/anytime/ext"],
                depends=[str(header) for header in Path("src/anytime/ext").glob("*.h")],
                libraries=["dl", "pthread"],  # part of libc since glibc 2.34; JetPack 5's is older
                extra_compile_args=["-O3"],
            )
            for name, sources in KERNELS.items()
        ],
        include_path=["src"],
    )
)
