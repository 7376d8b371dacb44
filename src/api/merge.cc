// thorns::merge: bind, plan, run, publish.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <map>
#include <numbers>
#include <optional>
#include <string>

#include "api/requests.h"
#include "base/pages.h"
#include "engine/engine.h"
#include "output/writer.h"
#include "plan/memory.h"
#include "plan/sink.h"

namespace thorns {
namespace {

constexpr std::size_t kFirstAngles = 5;  // tensors whose angles the summary shows

// Passes everything on to the writer and keeps what the summary tells.
class Tally : public Sink {
 public:
  explicit Tally(const Plan& plan) : plan_(plan) {}

  void pass_on_to(Sink& next) { next_ = &next; }

  void write(std::size_t program, std::span<const std::byte> bytes) override {
    next_->write(program, bytes);
  }

  void finished(std::size_t program, const TensorFacts& facts) override {
    count(program, facts);
    next_->finished(program, facts);
  }

  // A tensor that is written, now or by the run that this one goes on with.
  void count(std::size_t program, const TensorFacts& facts) {
    elements_ += plan_.programs[program].elements;
    rounded_ += facts.rounded;
    clipped_ += facts.clipped;
    nonfinite_ += facts.nonfinite;
    const std::string& tensor = plan_.programs[program].tensor;
    FirstAngles first{tensor, {}};
    for (const NodeFacts& node : facts.nodes) {
      NodeSummary& summary = nodes_[node.recipe_node];
      summary.fell_back += node.fell_back ? 1 : 0;
      if (!node.angle) continue;
      compare_padded(tensor, node);
      first.angles.emplace_back(plan_.recipe.nodes[node.recipe_node].key, *node.angle);
      if (!summary.smallest || *node.angle < summary.smallest->radians) {
        summary.smallest = AngleExtreme{*node.angle, tensor};
      }
      if (!summary.largest || *node.angle > summary.largest->radians) {
        summary.largest = AngleExtreme{*node.angle, tensor};
      }
    }
    if (!first.angles.empty() && first_angles_.size() < kFirstAngles) {
      first_angles_.push_back(std::move(first));
    }
  }

  void fill(MergeSummary& summary) const {
    summary.elements = elements_;
    summary.rounded = rounded_;
    summary.clipped = clipped_;
    summary.nonfinite = nonfinite_;
    summary.first_angles = first_angles_;
    if (padded_) summary.warnings.push_back(padded_->text);
    for (const auto& [index, node] : nodes_) {
      NodeSummary complete = node;
      complete.key = plan_.recipe.nodes[index].key;
      complete.method = std::get<BlendNode>(plan_.recipe.nodes[index].node).method->name();
      summary.nodes.push_back(std::move(complete));
    }
  }

 private:
  struct Padded {
    double change = 0;  // radians
    std::string text;
  };

  // What the rule for rows that only some models have did to an angle; the largest change is told.
  void compare_padded(const std::string& tensor, const NodeFacts& node) {
    if (!node.padded_angle) return;
    const double change = std::abs(*node.padded_angle - *node.angle);
    if (padded_ && change <= padded_->change) return;
    constexpr double kDegrees = 180 / std::numbers::pi;
    padded_ = {change, fmt::format("angles are measured in the rows that models share: with zeros "
                                   "for the others, that at {} would be {:.2f} degrees in `{}` "
                                   "instead of {:.2f}",
                                   plan_.recipe.nodes[node.recipe_node].key,
                                   *node.padded_angle * kDegrees, tensor, *node.angle * kDegrees)};
  }

  const Plan& plan_;
  Sink* next_ = nullptr;
  std::uint64_t elements_ = 0;
  std::uint64_t rounded_ = 0;
  std::uint64_t clipped_ = 0;
  std::uint64_t nonfinite_ = 0;
  std::map<std::size_t, NodeSummary> nodes_;  // by recipe node
  std::vector<FirstAngles> first_angles_;
  std::optional<Padded> padded_;
};

// One error out of all problems: the first, with the number of the others.
[[noreturn]] void refuse(const std::vector<Error>& problems) {
  const Error& first = problems.front();
  if (problems.size() == 1) throw Error(first);
  const std::string others = std::to_string(problems.size() - 1) +
                             (problems.size() == 2 ? " more problem" : " more problems") +
                             "; `thorns plan` lists all of them";
  throw Error(first.code(), first.message(), first.where(),
              first.hint().empty() ? others : first.hint() + "; " + others);
}

// What may go well the next time, with the same command.
bool can_be_continued(ErrorCode code) {
  return code == ErrorCode::Cancelled || code == ErrorCode::NoSpace || code == ErrorCode::Io;
}

Started announce(const Plan& plan, std::size_t kept) {
  Started job;
  job.tensors_kept = kept;
  job.key = plan.recipe.key;
  job.title = plan.recipe.settings.name;
  job.leaves = plan.leaves.size();
  job.adapters = plan.adapters.size();
  job.tensors = plan.programs.size();
  job.bytes_in = plan.bytes_in;
  job.bytes_out = plan.bytes_out;
  job.memory = plan.memory.total();
  return job;
}

}  // namespace

const char* version() { return THORNS_VERSION; }

MergeSummary merge(const MergeOptions& options, Observer& observer) {
  const auto begin = std::chrono::steady_clock::now();
  Disk& disk = real_disk();
  if (options.output.empty())
    throw Error(ErrorCode::BadUsage, "no output folder is given", Where{}, "use -o DIR");
  PlanResult made = make_plan(disk, bind(disk, options), plan_options(options));
  if (!made.problems.empty()) refuse(made.problems);
  const Plan& plan = made.plan;
  for (const std::string& warning : plan.warnings) observer.warning(warning);

  PlanReport report = describe(plan);
  add_needs(disk, options, plan, report);
  Tally tally(plan);
  const auto writer = CheckpointWriter::create(
      disk, plan,
      {options.output, options.force, options.allow_nonfinite, card_options(disk, options, plan),
       [&](std::size_t program, const TensorFacts& facts) { tally.count(program, facts); }});
  tally.pass_on_to(*writer);
  if (!writer->why_anew().empty()) {
    observer.warning("what an interrupted run left is not used, because " + writer->why_anew() +
                     "; the merge starts anew");
  }
  const std::size_t kept = writer->kept();
  observer.started(announce(plan, kept));
  EngineFacts facts;
  try {
    facts = run(plan, tally, observer, {options.allow_nonfinite, kept});
    writer->publish();
  } catch (const Error& error) {
    if (can_be_continued(error.code())) writer->keep();
    throw;
  }

  MergeSummary summary;
  summary.plan = std::move(report);
  summary.output = options.output;
  summary.merged = summary.plan.merged;
  summary.copied = summary.plan.copied;
  summary.cast = summary.plan.cast;
  summary.dropped = plan.dropped.size();
  summary.bytes_read = facts.bytes_read;
  summary.bytes_written = facts.bytes_written;
  summary.tensors_kept = kept;
  for (std::size_t i = 0; i < kept; ++i) {
    summary.bytes_kept += plan.programs[i].bytes();
    summary.reads_spared += read_bytes(plan.programs[i], plan.memory);
  }
  summary.warnings = plan.warnings;
  tally.fill(summary);
  summary.peak_memory = peak_memory();
  summary.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  return summary;
}

}  // namespace thorns
