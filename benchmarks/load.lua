-- The same submission over and over, for a window after a warm-up; then nobody sends any more, so that every request has
-- its answer. Says how many answers there were, and how many of them in the window.
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

local warm, window = tonumber(os.getenv("WARM")), tonumber(os.getenv("WINDOW"))
local threads = {}
local begun

function setup(thread)
  table.insert(threads, thread)
end

function init()
  accepted, inside, refused = 0, 0, 0
  words = ""
end

function delay()
  local moment = now()
  begun = begun or moment
  return moment > begun + warm + window and 3600000 or 0
end

function response(status, headers, body)
  if status ~= 200 or not string.find(body, '"statusCode":%s*0%D') then
    refused = refused + 1
    words = status .. " " .. string.sub(body, 1, 200)
    return
  end
  accepted = accepted + 1
  local since = now() - begun
  if since > warm and since <= warm + window then
    inside = inside + 1
  end
end

function done(summary, latency, requests)
  for _, thread in ipairs(threads) do
    print("accepted " .. thread:get("accepted"))
    print("inside " .. thread:get("inside"))
    print("refused " .. thread:get("refused") .. " " .. thread:get("words"))
  end
end
