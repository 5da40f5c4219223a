-- Sends what the file in the first argument lists, a path and a tenant ("-" = none) a line, over and over.
-- No two requests are alike: each has an id of its own, so that nobody can remember the whole of one.
local paths, tenants, number = {}, {}, 0

function init(arguments)
  for line in io.lines(arguments[1]) do
    local path, tenant = line:match("(%S+) (%S+)")
    table.insert(paths, path)
    table.insert(tenants, tenant)
  end
end

function request()
  number = number + 1
  local place = number % #paths + 1
  wrk.headers["x-tenant"] = tenants[place] ~= "-" and tenants[place] or nil
  wrk.headers["x-request-id"] = string.format("%08x-%d", number * 2654435761 % 4294967296, number)
  return wrk.format("GET", paths[place])
end

function done(summary)
  local e = summary.errors
  io.write(string.format("result %d %d\n", summary.requests, e.status + e.connect + e.read + e.write + e.timeout))
end
