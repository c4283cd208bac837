"""Builds the compiled kernels, each named here; the build stops when one is missing."""

from Cython.Build import cythonize
from setuptools import Extension, setup

KERNELS = ("latency", "logits", "ort")

setup(
    ext_modules=cythonize(
        [
            Extension(
                f"anytime.ext.{name}",
                [f"src/anytime/ext/{name}.pyx"],
                include_dirs=["src/anytime/ext"],
                depends=["src/anytime/ext/ort_api.h"],
                libraries=["dl", "pthread"],  # part of libc since glibc 2.34; JetPack 5's is older
                extra_compile_args=["-O3"],
            )
            for name in KERNELS
        ],
        include_path=["src"],
    )
)
