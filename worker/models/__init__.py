"""Models of runs: found by name, downloaded or dequantized, loaded onto a device, cached."""
