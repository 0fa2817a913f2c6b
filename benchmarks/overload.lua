-- Forms that keep coming at a steady rate, whatever is answered: each connection waits between two of them.
local body = "firstName=Jane&lastName=Doe&fromAddress=jane%40customer.test&subject=A+question&text=Where+is+my+parcel%3F"
local between = tonumber(os.getenv("BETWEEN_MS") or "0")

function request()
  return wrk.format("POST", nil, {["Content-Type"] = "application/x-www-form-urlencoded"}, body)
end

function delay()
  return math.random(0, 2 * between)
end
