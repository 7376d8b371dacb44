#include "cli/progress.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "cli/columns.h"
#include "thorns/words.h"

namespace thorns::cli {
namespace {

constexpr double kWindow = 3.0;       // seconds of the moving average
constexpr double kLeastSpan = 0.2;    // seconds before a rate is believed
constexpr double kSampleEvery = 0.1;  // seconds between samples that are kept
constexpr double kLongest = 100.0 * 3600;

constexpr std::size_t kShortBar = 10;
constexpr std::size_t kLongBar = 30;
constexpr std::size_t kBarFrame = 2;      // its brackets
constexpr std::size_t kPercent = 4;       // "100%"
constexpr std::size_t kRate = 10;         // "999.9 MB/s"
constexpr std::size_t kLeastTensor = 12;  // columns in which a tensor's name still says something
constexpr std::size_t kTensor = 40;       // columns that the longer bar leaves to it
constexpr std::size_t kGap = 2;

double fraction(const Progress& now) {
  if (now.bytes_total == 0) return 0;
  const double part = static_cast<double>(now.bytes_done) / static_cast<double>(now.bytes_total);
  return std::min(part, 1.0);
}

std::string percent_text(const Progress& now) {
  return fmt::format("{}%", static_cast<int>(std::floor(fraction(now) * 100)));
}

std::string rate_text(std::optional<double> rate) {
  if (!rate) return "- MB/s";
  return human_bytes(static_cast<std::uint64_t>(*rate)) + "/s";
}

std::string left_text(const Progress& now, const Pace& pace) {
  return clock_text(pace.left(now)) + " left";
}

std::string bar_text(const Progress& now, std::size_t length) {
  const auto full =
      static_cast<std::size_t>(std::floor(fraction(now) * static_cast<double>(length)));
  return "[" + std::string(full, '#') + std::string(length - full, '-') + "]";
}

}  // namespace

void Pace::add(double seconds, std::uint64_t bytes_done) {
  if (samples_.size() >= 2 && seconds - samples_[samples_.size() - 2].seconds < kSampleEvery) {
    samples_.back() = {seconds, bytes_done};
  } else {
    samples_.push_back({seconds, bytes_done});
  }
  // The last sample older than the window stays: the average reaches back to it.
  while (samples_.size() > 2 && seconds - samples_[1].seconds >= kWindow) samples_.pop_front();
}

std::optional<double> Pace::rate() const {
  if (samples_.size() < 2) return std::nullopt;
  const double span = samples_.back().seconds - samples_.front().seconds;
  if (span < kLeastSpan || samples_.back().bytes < samples_.front().bytes) return std::nullopt;
  return static_cast<double>(samples_.back().bytes - samples_.front().bytes) / span;
}

std::optional<double> Pace::left(const Progress& now) const {
  const auto speed = rate();
  if (!speed || *speed <= 0) return std::nullopt;
  if (now.bytes_done >= now.bytes_total) return 0.0;
  return static_cast<double>(now.bytes_total - now.bytes_done) / *speed;
}

std::string clock_text(std::optional<double> seconds) {
  if (!seconds || !(*seconds >= 0) || *seconds >= kLongest) return "--:--";
  const auto whole = static_cast<std::uint64_t>(std::ceil(*seconds));
  if (whole < 3600) return fmt::format("{}:{:02}", whole / 60, whole % 60);
  return fmt::format("{}:{:02}:{:02}", whole / 3600, whole / 60 % 60, whole % 60);
}

std::string part_text(std::uint64_t done, std::uint64_t total) {
  const std::string all = human_bytes(total);
  if (total < 1000) return fmt::format("{} of {}", done, all);
  // The unit in which human_bytes writes the total.
  double unit = 1000;
  while (static_cast<double>(total) / unit >= 999.95 && unit < 1e15) unit *= 1000;
  return fmt::format("{:.1f} of {}", static_cast<double>(done) / unit, all);
}

std::string progress_line(const Progress& now, const Pace& pace, std::size_t width) {
  const std::size_t room = width > 0 ? width - 1 : 0;
  if (room < kPercent) return {};
  std::size_t used = kPercent;
  // Takes what a piece needs, if there is that much.
  const auto take = [&](std::size_t columns) {
    if (used + columns > room) return false;
    used += columns;
    return true;
  };
  const std::string left = left_text(now, pace);
  const std::size_t left_width = display_width(left) <= 10 ? 10 : 12;  // under an hour, or above
  const std::string total = part_text(now.bytes_total, now.bytes_total);

  const bool with_left = take(kGap + left_width);
  const bool with_rate = take(kGap + kRate);
  const bool with_bytes = take(kGap + display_width(total));
  std::size_t bar = take(kShortBar + kBarFrame - kPercent) ? kShortBar : 0;
  const bool with_tensor = bar > 0 && take(kGap + kLeastTensor);
  if (with_tensor && room > used + (kTensor - kLeastTensor)) {
    const std::size_t spare = room - used - (kTensor - kLeastTensor);
    bar += std::min(spare, kLongBar - kShortBar);
    used += bar - kShortBar;
  }

  const std::string gap(kGap, ' ');
  std::string line = bar > 0 ? bar_text(now, bar) : pad_left(percent_text(now), kPercent);
  if (with_bytes) {
    line += gap + pad_left(part_text(now.bytes_done, now.bytes_total), display_width(total));
  }
  if (with_rate) line += gap + pad_left(rate_text(pace.rate()), kRate);
  if (with_left) line += gap + pad_left(left, left_width);
  if (with_tensor) {
    line += gap + shorten_tensor(printable_line(now.tensor), room - used + kLeastTensor);
  }
  return line;
}

std::string progress_report(const Progress& now, const Pace& pace) {
  std::string line =
      fmt::format("{}, {}, {}, {}", percent_text(now), part_text(now.bytes_done, now.bytes_total),
                  rate_text(pace.rate()), left_text(now, pace));
  if (!now.tensor.empty()) line += ", " + printable_line(now.tensor);
  return line;
}

std::string started_line(const Started& job, const std::string& name, std::size_t width) {
  // The least in which a name can be told; in a narrower terminal the line wraps.
  constexpr std::size_t kLeastTitle = 8;
  std::string inputs = count_text(job.leaves, "model");
  if (job.adapters > 0) inputs += ", " + count_text(job.adapters, "adapter");
  const std::string facts =
      fmt::format(" from {}: {} in, {} out, {} memory", inputs, human_bytes(job.bytes_in),
                  human_bytes(job.bytes_out), human_bytes(job.memory));
  const std::string& known = name.empty() ? job.key : name;
  const std::string title = printable_line(job.title.empty() ? known : job.title);
  const std::size_t room = width > facts.size() ? width - facts.size() : 0;
  return shorten(title, std::max(kLeastTitle, room)) + facts;
}

std::string fetch_line(const FetchStarted& job) {
  const std::string there =
      job.bytes_there == 0 ? ""
      : job.bytes_there == job.bytes
          ? ", all there"
          : fmt::format(", of which {} are there", human_bytes(job.bytes_there));
  return fmt::format("{}: {}, {}{}", printable_line(job.repository), count_text(job.files, "file"),
                     human_bytes(job.bytes), there);
}

std::string count_text(std::uint64_t count, const std::string& noun) {
  return fmt::format("{} {}{}", count, noun, count == 1 ? "" : "s");
}

}  // namespace thorns::cli
