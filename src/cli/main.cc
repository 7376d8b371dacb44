// The entry point: the process's streams and signals, then run_program.
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <string>
#include <vector>

#include "cli/program.h"

int main(int argc, char** argv) {
  thorns::cli::guard_standard_streams();
  std::signal(SIGPIPE, SIG_IGN);  // a closed pipe is a failed write,
  std::signal(SIGXFSZ, SIG_IGN);  // and so is a file beyond the limit of its size
  thorns::cli::FileChannel out(STDOUT_FILENO);
  thorns::cli::FileChannel err(STDERR_FILENO);
  thorns::cli::Console console{out, err};
  const char* const path = std::getenv("THORNS_PATH");
  const std::vector<std::string> arguments(argv + (argc > 0 ? 1 : 0), argv + argc);
  return thorns::cli::run_program(arguments, path == nullptr ? "" : path, console);
}
