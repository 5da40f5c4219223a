-- Prints one line that begins with "result" and holds wrk's own figures, exactly:
-- requests, microseconds, bytes, p50 and p99 in microseconds, answers above 399, and failures.
done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format("result %d %d %d %d %d %d %d\n",
    summary.requests, summary.duration, summary.bytes,
    latency:percentile(50), latency:percentile(99),
    e.status, e.connect + e.read + e.write + e.timeout))
end
