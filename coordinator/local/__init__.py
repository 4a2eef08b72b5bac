"""Children as processes on this machine: started, read, ended, and nothing of them left behind."""
