// Where the program's words go: the two output streams, and the observer that tells on standard
// error what a merge is doing. Nothing else in this room writes.
#pragma once

#include <atomic>
#include <cstddef>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cli/progress.h"
#include "thorns/error.h"
#include "thorns/fetch.h"

namespace thorns::cli {

enum class WriteResult {
  Done,
  Closed,  // nobody reads it, or it was never open
  Failed,  // the device said no; errno tells why
};

// One output stream.
class Channel {
 public:
  virtual ~Channel() = default;
  virtual WriteResult write(std::string_view text) = 0;
  virtual bool is_terminal() const = 0;
  virtual bool has_colour() const = 0;
  // Columns, as they are now; 80 where there is no terminal.
  virtual std::size_t width() const = 0;
  // True where a line can be drawn over.
  virtual bool can_redraw() const = 0;
  // True where lines can be drawn with characters beyond ASCII.
  virtual bool has_unicode() const = 0;
};

class FileChannel : public Channel {
 public:
  // Looks at the environment once: no colour with NO_COLOR set to anything or TERM=dumb, width from
  // COLUMNS where the terminal does not know its own, Unicode where the locale is one of UTF-8.
  explicit FileChannel(int descriptor);
  WriteResult write(std::string_view text) override;
  bool is_terminal() const override { return is_terminal_; }
  bool has_colour() const override { return has_colour_; }
  std::size_t width() const override;
  bool can_redraw() const override { return is_terminal_ && !is_dumb_; }
  bool has_unicode() const override { return has_unicode_; }

 private:
  int descriptor_;
  bool is_terminal_;
  bool is_dumb_;
  bool has_colour_;
  bool has_unicode_;
  std::size_t default_width_;
};

struct Console {
  Channel& out;  // data
  Channel& err;  // talk
};

// Writes the answer of a verb to standard output and returns the exit code: 0, or 1 where nobody
// reads it. Throws Io where it cannot be written (a full disk).
int answer(Console& console, const std::string& text);

// `thorns: error: ...` with place and hint, on standard error.
void tell(Channel& err, const Error& error);
void tell_warning(Channel& err, const std::string& message);

// All of standard input. Throws BadRecipe beyond `limit` bytes and Io.
std::string read_standard_input(std::size_t limit);

// Opens /dev/null in place of standard streams that are closed, so that no file of a merge is ever
// opened as one of them. Writing to a closed standard output still fails.
void guard_standard_streams();

enum class ProgressMode { Auto, Always, Never };

struct Talk {
  ProgressMode progress = ProgressMode::Auto;
  bool quiet = false;    // warnings and errors only
  bool verbose = false;  // whole lists
  bool json = false;     // the answer is one JSON document
};

// Tells on `err` what a merge does: a line at its start, then either one line that is drawn over,
// at most ten times a second, or a line every ten seconds. `cancelled` is thread-safe, the rest is
// called by one thread. The line is gone when this is destroyed.
class TerminalObserver final : public FetchObserver {
 public:
  using Clock = std::function<double()>;  // seconds, never going back
  // `name`: what is made, for recipes without a title.
  TerminalObserver(Channel& err, const Talk& talk, std::string name, Clock clock,
                   const std::atomic<bool>& stop);
  ~TerminalObserver() override;
  TerminalObserver(const TerminalObserver&) = delete;
  TerminalObserver& operator=(const TerminalObserver&) = delete;

  void started(const Started& job) override;
  void fetch_started(const FetchStarted& job) override;
  void warning(const std::string& message) override;
  void progress(const Progress& now) override;
  bool cancelled() override { return stop_; }

  // Those of `messages` that have not been told yet.
  std::vector<std::string> untold(const std::vector<std::string>& messages) const;

 private:
  enum class Style { None, Redrawn, Logged };
  static Style style_of(const Channel& err, const Talk& talk);
  void erase();
  void redraw(const Progress& now, double seconds);
  void log(const Progress& now, double seconds);

  Channel& err_;
  bool quiet_;
  std::string name_;
  Style style_;
  Clock clock_;
  const std::atomic<bool>& stop_;
  Pace pace_;
  std::optional<double> last_drawn_;
  double next_log_;
  std::size_t drawn_width_ = 0;  // columns of the line that is on the terminal now
  bool told_stop_ = false;
  std::vector<std::string> told_;
};

// Seconds of the system's steady clock.
double steady_seconds();

}  // namespace thorns::cli
