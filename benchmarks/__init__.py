"""Benchmarks: real units of work on seeded, cached workloads, beside peers on the same work in the same run."""
