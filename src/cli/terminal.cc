#include "cli/terminal.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>

#include "cli/columns.h"

namespace thorns::cli {
namespace {

constexpr std::size_t kDefaultWidth = 80;
constexpr double kRedrawEvery = 0.1;  // seconds
constexpr double kLogEvery = 10.0;    // seconds

constexpr const char* kRed = "\x1b[1;31m";
constexpr const char* kYellow = "\x1b[1;33m";
constexpr const char* kCyan = "\x1b[1;36m";
constexpr const char* kPlain = "\x1b[0m";

std::string environment(const char* name) {
  const char* const value = std::getenv(name);
  return value == nullptr ? std::string() : value;
}

std::size_t width_from_environment() {
  const std::string columns = environment("COLUMNS");
  const unsigned long width = std::strtoul(columns.c_str(), nullptr, 10);
  return width > 0 && width < 10'000 ? width : kDefaultWidth;
}

// As setlocale takes it: the first of the three that is set names the locale.
bool unicode_from_environment() {
  for (const char* const name : {"LC_ALL", "LC_CTYPE", "LANG"}) {
    const std::string locale = environment(name);
    if (locale.empty()) continue;
    constexpr std::array kWords = {"UTF-8", "utf-8", "UTF8", "utf8"};
    return std::any_of(kWords.begin(), kWords.end(),
                       [&](const char* word) { return locale.find(word) != std::string::npos; });
  }
  return false;
}

// `word` in colour where it opens a line of `text`.
std::string paint(std::string text, std::string_view word, const char* colour) {
  const std::string painted = std::string(colour) + std::string(word) + kPlain;
  std::size_t at = 0;
  while ((at = text.find(word, at)) != std::string::npos) {
    if (at == 0 || text[at - 1] == '\n') {
      text.replace(at, word.size(), painted);
      at += painted.size();
    } else {
      at += word.size();
    }
  }
  return text;
}

void tell_block(Channel& err, const std::string& text, std::string_view word, const char* colour) {
  std::string block = printable(text);
  if (err.has_colour()) block = paint(paint(block, word, colour), "hint:", kCyan);
  err.write("thorns: " + block);
}

}  // namespace

// ---------------------------------------------------------------- streams

FileChannel::FileChannel(int descriptor)
    : descriptor_(descriptor),
      is_terminal_(isatty(descriptor) == 1),
      is_dumb_(environment("TERM") == "dumb"),
      has_colour_(is_terminal_ && !is_dumb_ && environment("NO_COLOR").empty()),
      has_unicode_(unicode_from_environment()),
      default_width_(width_from_environment()) {}

WriteResult FileChannel::write(std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = ::write(descriptor_, text.data(), text.size());
    if (written >= 0) {
      text.remove_prefix(static_cast<std::size_t>(written));
    } else if (errno == EPIPE || errno == EBADF) {
      return WriteResult::Closed;
    } else if (errno != EINTR) {
      return WriteResult::Failed;
    }
  }
  return WriteResult::Done;
}

std::size_t FileChannel::width() const {
  if (!is_terminal_) return kDefaultWidth;
  winsize size{};
  if (ioctl(descriptor_, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) return size.ws_col;
  return default_width_;
}

int answer(Console& console, const std::string& text) {
  switch (console.out.write(text)) {
    case WriteResult::Done:
      return 0;
    case WriteResult::Closed:
      return 1;
    case WriteResult::Failed:
      break;
  }
  throw Error(ErrorCode::Io,
              fmt::format("standard output cannot be written: {}", std::strerror(errno)));
}

void tell(Channel& err, const Error& error) { tell_block(err, to_string(error), "error:", kRed); }

void tell_warning(Channel& err, const std::string& message) {
  tell_block(err, "warning: " + message + "\n", "warning:", kYellow);
}

std::string read_standard_input(std::size_t limit) {
  std::string text;
  std::array<char, 16'384> piece{};
  for (;;) {
    const ssize_t got = ::read(STDIN_FILENO, piece.data(), piece.size());
    if (got == 0) return text;
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) {
      throw Error(ErrorCode::Io,
                  fmt::format("standard input cannot be read: {}", std::strerror(errno)));
    }
    text.append(piece.data(), static_cast<std::size_t>(got));
    if (text.size() > limit) {
      throw Error(ErrorCode::BadRecipe,
                  fmt::format("the text on standard input is longer than {} bytes", limit), {},
                  "a recipe is a key or a YAML file; was something else piped in?");
    }
  }
}

void guard_standard_streams() {
  // Read-only in place of an output (and the reverse), so that using it fails as it should.
  const std::array<int, 3> modes = {O_WRONLY, O_RDONLY, O_WRONLY};
  for (int stream = 0; stream < 3; ++stream) {
    if (fcntl(stream, F_GETFD) != -1 || errno != EBADF) continue;
    // The lowest free descriptor is this one: the earlier ones are open.
    if (::open("/dev/null", modes.at(static_cast<std::size_t>(stream))) != stream) _exit(1);
  }
}

// ---------------------------------------------------------------- observer

TerminalObserver::TerminalObserver(Channel& err, const Talk& talk, std::string name, Clock clock,
                                   const std::atomic<bool>& stop)
    : err_(err),
      quiet_(talk.quiet),
      name_(std::move(name)),
      style_(style_of(err, talk)),
      clock_(std::move(clock)),
      stop_(stop),
      next_log_(clock_() + kLogEvery) {}

TerminalObserver::~TerminalObserver() { erase(); }

TerminalObserver::Style TerminalObserver::style_of(const Channel& err, const Talk& talk) {
  if (talk.progress == ProgressMode::Never) return Style::None;
  if (talk.progress == ProgressMode::Always) return Style::Redrawn;
  if (talk.quiet) return Style::None;
  return err.can_redraw() ? Style::Redrawn : Style::Logged;
}

void TerminalObserver::started(const Started& job) {
  const double seconds = clock_();
  pace_.add(seconds, 0);
  next_log_ = seconds + kLogEvery;
  if (quiet_) return;
  erase();
  err_.write(started_line(job, name_, err_.width()) + "\n");
  if (job.tensors_kept > 0) {
    err_.write(fmt::format("continues an interrupted run: {} of {} are written\n", job.tensors_kept,
                           count_text(job.tensors, "tensor")));
  }
}

void TerminalObserver::fetch_started(const FetchStarted& job) {
  pace_ = {};
  if (quiet_) return;
  erase();
  err_.write(fetch_line(job) + "\n");
}

void TerminalObserver::warning(const std::string& message) {
  erase();
  tell_warning(err_, message);
  told_.push_back(message);
}

void TerminalObserver::progress(const Progress& now) {
  const double seconds = clock_();
  pace_.add(seconds, now.bytes_done);
  if (stop_ && !told_stop_) {
    told_stop_ = true;
    erase();
    err_.write("thorns: stopping; a second signal stops at once\n");
  }
  if (style_ == Style::Redrawn) redraw(now, seconds);
  if (style_ == Style::Logged) log(now, seconds);
}

std::vector<std::string> TerminalObserver::untold(const std::vector<std::string>& messages) const {
  std::vector<std::string> rest;
  std::copy_if(messages.begin(), messages.end(), std::back_inserter(rest),
               [&](const std::string& message) {
                 return std::find(told_.begin(), told_.end(), message) == told_.end();
               });
  return rest;
}

// With blanks rather than an escape sequence: it works on every terminal.
void TerminalObserver::erase() {
  if (drawn_width_ == 0) return;
  const std::size_t width = err_.width();
  const std::size_t blanks = std::min(drawn_width_, width > 0 ? width - 1 : 0);
  err_.write("\r" + std::string(blanks, ' ') + "\r");
  drawn_width_ = 0;
}

void TerminalObserver::redraw(const Progress& now, double seconds) {
  if (last_drawn_ && seconds - *last_drawn_ < kRedrawEvery) return;
  last_drawn_ = seconds;
  const std::size_t width = err_.width();
  const std::string line = progress_line(now, pace_, width);
  // Blanks over what the last line leaves, unless the terminal has become narrower since.
  const std::size_t covered = std::min(drawn_width_, width > 0 ? width - 1 : 0);
  err_.write("\r" + pad_right(line, covered));
  drawn_width_ = display_width(line);
}

void TerminalObserver::log(const Progress& now, double seconds) {
  if (seconds < next_log_) return;
  next_log_ = seconds + kLogEvery;
  err_.write(progress_report(now, pace_) + "\n");
}

double steady_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace thorns::cli
