"""Children as processes on this machine: spawn, capture output, clean up, reap orphans."""
