"""What every package uses: errors, settings as dataclass fields, plug-ins, files, streams of random numbers."""
