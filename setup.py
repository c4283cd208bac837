"""Builds the compiled kernels, each named here; the build stops when one is missing."""

from Cython.Build import cythonize
from setuptools import Extension, setup

KERNELS = ("latency",)

setup(
    ext_modules=cythonize(
        [
            Extension(f"anytime.ext.{name}", [f"src/anytime/ext/{name}.pyx"], extra_compile_args=["-O3"])
            for name in KERNELS
        ]
    )
)
