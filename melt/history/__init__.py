"""The results of many sessions as one table, `index.parquet`, and as series of nights."""
