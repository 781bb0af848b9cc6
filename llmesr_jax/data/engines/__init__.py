"""The rules of `launch.prepare` in SQL, for engines that spread the work: DuckDB over the cores and the disk of one
machine, Spark over a cluster. What they write are Parquet parts in the order of the raw rows, which `launch.prepare`
reads as they are and numbers as it would have numbered the raw rows.
"""
