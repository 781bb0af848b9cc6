"""Many runs: sweeps, searches, reports, gradients, benchmarks."""
