"""The images built and run for real: `scripts/container-test` prepares the machine and runs this package."""
