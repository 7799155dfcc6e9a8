"""The stream measured: what the benchmarks `stream_fold`, `stream_app` and `stream_alerts` are made of."""
