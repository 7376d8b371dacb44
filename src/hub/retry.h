// What is asked again, and when. Pure functions.
#pragma once

#include <ctime>

#include "hub/http.h"

namespace thorns {

// Whether an answer of that status may be another the next time.
bool may_pass(int status);

// Seconds before try number `tries` (from 1) is repeated: doubling from half a second, at most 30,
// of which between a half and all by `chance` in [0, 1), so that many who were refused together do
// not come back together.
double retry_delay(int tries, double chance);

// Seconds after which an answer asks to be asked again; 0 where it does not. `Retry-After` is a
// number, or a date, counted from the answer's own `Date`, else from `now` (RFC 9110, 10.2.3);
// without it, a 429 whose `RateLimit` has nothing remaining says when that ends (IETF draft
// httpapi-ratelimit-headers, 2025).
double retry_after(const HttpHead& head, std::time_t now);

}  // namespace thorns
