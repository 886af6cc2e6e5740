"""What a green pool says in a process whose standard library was not patched; run by test_pools.py."""

import sys

from pool_driver import app

from fastq.exceptions import ImproperlyConfigured
from fastq.wakeup import Waker
from fastq.worker.pools.base import PoolOptions
from fastq.worker.pools.table import open_pool

try:
    open_pool(sys.argv[1], app, PoolOptions(), Waker()).start()
except ImproperlyConfigured as exc:
    print(exc)
