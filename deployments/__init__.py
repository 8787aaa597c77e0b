"""Where and when things run: service processes, work pools, limits and the local platform of ``make up``."""
