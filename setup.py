"""Build the extension modules; everything else stands in pyproject.toml."""

import os
import shlex
import shutil
import subprocess
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


def librabbitmq() -> list[str] | None:
    """What the compiler must be told to use librabbitmq; None where pkg-config does not find it."""
    command = [os.environ.get("PKG_CONFIG", "pkg-config"), "--cflags", "--libs", "librabbitmq >= 0.9"]
    if shutil.which(command[0]) is None:
        return None
    found = subprocess.run(command, capture_output=True, text=True)
    return shlex.split(found.stdout) if found.returncode == 0 else None


flags = librabbitmq()
extensions = []
for source in sorted(Path("fastq/_core").glob("*.pyx")):
    # These need it. Without them everything but amqp:// works, and that scheme says what to install.
    if not source.stem.startswith("amqp"):
        extensions.append(Extension(f"fastq._core.{source.stem}", [str(source)], define_macros=MACROS))
    elif flags is not None:
        extensions.append(
            Extension(
                f"fastq._core.{source.stem}",
                [str(source)],
                define_macros=MACROS,
                extra_compile_args=[flag for flag in flags if not flag.startswith(("-l", "-L"))],
                extra_link_args=[flag for flag in flags if flag.startswith(("-l", "-L"))],
            )
        )

setup(ext_modules=cythonize(extensions, compiler_directives=DIRECTIVES, annotate=DEBUG, quiet=True))
