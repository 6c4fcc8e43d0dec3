"""How fast, how large and how scalable: measured, and kept in docs/performance."""
