"""For a machine that others use: the clock of every Python process is its own processor time.

    OMP_NUM_THREADS=1 PYTHONPATH=tests/benchmarks/cpu_clock python tests/benchmarks/…

With one thread a rate is then the same whether the machine is idle or not, but for the caches.
"""

import time

time.perf_counter = time.monotonic = time.process_time
