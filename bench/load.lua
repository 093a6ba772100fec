-- Sends requests that Python has prepared, and compares every answer with what is known of the token it was about.
--   wrk -s load.lua URL -- FILE [THREADS chain | THREADS once]
-- FILE holds requests, each a line and the bytes to send. The line's parts stand between tabs: the status the answer must have,
-- what its header Ledger-Reason must say, what its body must contain (each may be empty), and how many bytes follow.
-- Each request carries its number in X-Request-Id, which the service gives back: that tells the answers of many connections
-- apart. With one request in the file, as for hello-world, the number is not needed.
-- chain: the requests are refreshes, one more a thread than it has connections (wrk takes one to look at). The refresh token of
-- an answer takes the place of the one it was asked with, for the next.
-- once: each request is sent once; when there are no more, the answers are wrong.

local threads = {}

function setup(thread)
  thread:set("number", #threads)
  table.insert(threads, thread)
end

-- Cheap on purpose: wrk starts each thread when it has its requests and counts the time from when the last one is started, so
-- what the first sends while another reads would be counted for nothing.
function init(args)
  chained = args[3] == "chain"
  checks, requests = {}, {}
  local file = io.open(args[1], "rb")
  for line in file:lines() do
    local status, reason, needle, length = line:match("^(%d+)\t([^\t]*)\t([^\t]*)\t(%d+)$")
    table.insert(checks, {tonumber(status), reason ~= "" and reason, needle ~= "" and needle})
    table.insert(requests, file:read(tonumber(length)))
  end
  file:close()
  -- Threads begin apart, so that they do not ask about the same tokens at the same time.
  at = (number or 0) * 7919 % #requests
  if args[2] then
    -- The requests of this thread that are not under way.
    free = {}
    for n = (number or 0) + 1, #requests, tonumber(args[2]) do table.insert(free, n) end
  end
  checked, wrong, example = 0, 0, ""
end

function request()
  if not free then
    at = at % #requests + 1
  else
    at = table.remove(free) or at
    used_up = used_up or #free == 0
  end
  return requests[at]
end

function response(status, headers, body)
  checked = checked + 1
  local asked = #requests == 1 and 1 or tonumber(headers["x-request-id"])
  local check = checks[asked]
  if check == nil or status ~= check[1] or check[2] and headers["ledger-reason"] ~= check[2]
      or check[3] and not body:find(check[3], 1, true) then
    wrong = wrong + 1
    if example == "" then
      example = string.format("request %s: %d %s %s", asked, status, headers["ledger-reason"] or "", body:sub(1, 200))
    end
  elseif chained then
    local old, new = requests[asked]:match("refresh_token=(tl_rt_%w+)"), body:match('"refresh_token":"(tl_rt_%w+)"')
    if new == nil or new == old then
      wrong, example = wrong + 1, "a refresh without a new refresh token"
    else
      requests[asked] = requests[asked]:gsub(old, new)
      table.insert(free, asked)
    end
  elseif free and used_up then
    wrong, example = wrong + 1, "there were not enough requests"
  end
end

function done(summary, latency, _)
  local checked, wrong, example = 0, 0, ""
  for _, thread in ipairs(threads) do
    checked, wrong = checked + thread:get("checked"), wrong + thread:get("wrong")
    if example == "" then example = thread:get("example") end
  end
  local errors = summary.errors
  print(string.format("RESULT\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%s", summary.requests, summary.duration, latency:percentile(50),
    latency:percentile(99), errors.connect + errors.read + errors.write + errors.timeout, checked, wrong,
    (example:gsub("%s", " "))))
end
