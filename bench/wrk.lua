-- With the argument "varied" no two requests are alike: another path, another id, another trace.
function init(arguments)
  if arguments[1] ~= "varied" then
    return
  end
  local number = 0
  wrk.headers["user-agent"] = "bench/1.0"
  wrk.headers["accept"] = "application/json"
  request = function()
    number = number + 1
    wrk.headers["x-request-id"] = string.format("%08x-%d", number * 2654435761 % 4294967296, number)
    wrk.headers["traceparent"] = string.format("00-%032x-%016x-01", number, number)
    return wrk.format("GET", "/items/" .. number)
  end
end

-- Prints one line that begins with "result" and holds wrk's own figures, exactly:
-- requests, microseconds, bytes, p50 and p99 in microseconds, answers above 399, and failures.
done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format("result %d %d %d %d %d %d %d\n",
    summary.requests, summary.duration, summary.bytes,
    latency:percentile(50), latency:percentile(99),
    e.status, e.connect + e.read + e.write + e.timeout))
end
