"""Build the extension modules; everything else stands in pyproject.toml."""

import os
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

# FASTQ_DEBUG=1 keeps assertions and writes the annotated HTML beside each source.
DEBUG = os.environ.get("FASTQ_DEBUG") == "1"
MACROS = [] if DEBUG else [("CYTHON_WITHOUT_ASSERTIONS", "1")]
DIRECTIVES = {
    "language_level": 3,
    "auto_pickle": False,
    "autotestdict": False,
    "embedsignature": True,
}

extensions = [
    Extension(f"fastq._core.{source.stem}", [str(source)], define_macros=MACROS)
    for source in sorted(Path("fastq/_core").glob("*.pyx"))
]

setup(ext_modules=cythonize(extensions, compiler_directives=DIRECTIVES, annotate=DEBUG, quiet=True))
