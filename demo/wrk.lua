-- wrk stops by time, with requests in flight that it never counts; this stops each thread after a number of
-- responses, so that its count and the mesh's can be compared exactly.  One connection per thread.
limit, seen = 0, 0  -- globals: done() reads them through thread:get
local threads = {}

function setup(thread)
   table.insert(threads, thread)
end

function init(args)
   limit = tonumber(args[1])
end

function response(status)
   seen = seen + 1
   if status ~= 200 then failed = (failed or 0) + 1 end
   if seen >= limit then wrk.thread:stop() end
end

function done(summary)
   local total, bad = 0, 0
   for _, thread in ipairs(threads) do
      total = total + (thread:get("seen") or 0)
      bad = bad + (thread:get("failed") or 0)
   end
   io.write(string.format("TALLY %d %d\n", total, bad))
end
