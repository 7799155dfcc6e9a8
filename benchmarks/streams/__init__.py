"""Parts of the benchmarks `stream_fold`, `stream_app` and `stream_alerts`, which measure the stream."""
