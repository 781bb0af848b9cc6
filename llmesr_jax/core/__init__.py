"""What every package uses and nothing else: errors, settings as fields, plug-ins, files, streams of random numbers."""
