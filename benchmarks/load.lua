-- The same submission over and over, for a window after a warm-up; then nobody sends any more, so that every request has
-- its answer. Says how many answers there were, how many of them in the window, and how long that was: it ends early when
-- there is enough for a backlog.
local ffi = require("ffi")
ffi.cdef[[
  typedef struct { long seconds; long nanoseconds; } bench_time;
  int clock_gettime(int clock, bench_time *time);
]]
local read = ffi.new("bench_time")
local CLOCK_MONOTONIC = 1

local function now()
  ffi.C.clock_gettime(CLOCK_MONOTONIC, read)
  return tonumber(read.seconds) + tonumber(read.nanoseconds) / 1e9
end

local file = io.open(os.getenv("BODY"), "rb")
wrk.body = file:read("*a")
file:close()
wrk.method = "POST"
wrk.headers["Content-Type"] = os.getenv("CONTENT_TYPE")

local warm, window, most = tonumber(os.getenv("WARM")), tonumber(os.getenv("WINDOW")), tonumber(os.getenv("MOST"))
local threads = {}
local begun

function setup(thread)
  table.insert(threads, thread)
end

function init()
  accepted, inside, refused = 0, 0, 0
  lasted = -1
  words = ""
end

function delay()
  local moment = now()
  begun = begun or moment
  local since = moment - begun - warm
  if lasted < 0 and since > 0 and (since > window or accepted >= most) then
    lasted = since
  end
  return lasted < 0 and 0 or 3600000
end

function response(status, headers, body)
  if status ~= 200 or not string.find(body, '"statusCode":%s*0%D') then
    refused = refused + 1
    words = status .. " " .. string.sub(body, 1, 200)
    return
  end
  accepted = accepted + 1
  if lasted < 0 and now() - begun > warm then
    inside = inside + 1
  end
end

function done(summary, latency, requests)
  for _, thread in ipairs(threads) do
    print("accepted " .. thread:get("accepted"))
    print("inside " .. thread:get("inside"))
    print("lasted " .. thread:get("lasted"))
    print("refused " .. thread:get("refused") .. " " .. thread:get("words"))
  end
end
