// The words of the progress line: pure functions of the progress, the pace and the width.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>

#include "thorns/fetch.h"
#include "thorns/observer.h"

namespace thorns::cli {

// How fast bytes have been done lately: a moving average over the last three seconds.
class Pace {
 public:
  // `seconds` of any clock that never goes back.
  void add(double seconds, std::uint64_t bytes_done);
  // Bytes per second; none until a fifth of a second has been seen.
  std::optional<double> rate() const;
  // Seconds until `now.bytes_total` at that rate; none where it is unknown or zero.
  std::optional<double> left(const Progress& now) const;

 private:
  struct Sample {
    double seconds = 0;
    std::uint64_t bytes = 0;
  };
  std::deque<Sample> samples_;
};

// "0:07", "12:34", "1:02:03"; "--:--" for none and for 100 hours and more.
std::string clock_text(std::optional<double> seconds);

// "58.6 of 130.2 GB": both in the unit of `total`.
std::string part_text(std::uint64_t done, std::uint64_t total);

// One line of less than `width` columns (a terminal wraps the last one), without a newline:
//   [#####-----]  58.6 of 130.2 GB  650.1 MB/s  3:20 left  layers.17.mlp.up_proj
// Where it is narrow the tensor goes first, then the bar (a percentage takes its place), the bytes,
// the rate and the time; a piece keeps its width while numbers change, so that nothing jumps.
std::string progress_line(const Progress& now, const Pace& pace, std::size_t width);

// The same for a log, all pieces, no bar:
//   45%, 58.6 of 130.2 GB, 650.1 MB/s, 3:20 left, model.layers.17.mlp.up_proj.weight
std::string progress_report(const Progress& now, const Pace& pace);

// "13B-Thorns from 5 models, 3 adapters: 130.2 GB in, 26.0 GB out, 498.0 MB memory": the recipe's
// title, else `name`, else the key, shortened so that the line has at most `width` columns.
std::string started_line(const Started& job, const std::string& name, std::size_t width);

// "owner/repo: 12 files, 26.0 GB, of which 2.1 GB are there"
std::string fetch_line(const FetchStarted& job);

// "1 model", "5 models"
std::string count_text(std::uint64_t count, const std::string& noun);

}  // namespace thorns::cli
