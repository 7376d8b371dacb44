// Asking a merge to stop: SIGINT, SIGTERM and SIGHUP.
#pragma once

#include <atomic>

namespace thorns::cli {

// From now on the first such signal only sets `stop_requested`, and a second one ends the process
// at once, as if it were not handled. A signal that the parent ignores stays ignored (nohup).
void catch_stop_signals();

const std::atomic<bool>& stop_requested();

}  // namespace thorns::cli
