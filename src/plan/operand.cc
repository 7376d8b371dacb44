#include "plan/plan.h"

namespace thorns {

RowRuns::const_iterator run_at(const RowRuns& runs, std::uint64_t element) {
  return std::partition_point(runs.begin(), runs.end(),
                              [&](const RowRun& run) { return run.to + run.count <= element; });
}

bool Operand::has(std::uint64_t element) const {
  if (rows == nullptr) return element < elements;
  const auto run = run_at(*rows, element);
  return run != rows->end() && run->to <= element;
}

void Operand::read(std::uint64_t first, std::span<std::byte> to) const {
  const std::size_t width = size_of(dtype);
  each_run(first, to.size() / width, [&](std::uint64_t from, std::uint64_t count) {
    const std::size_t bytes = static_cast<std::size_t>(count) * width;
    source->read(tensor, from, to.first(bytes));
    to = to.subspan(bytes);
  });
}

std::shared_ptr<const FilePart> Operand::map(std::uint64_t first, std::uint64_t count) const {
  if (rows == nullptr) return source->map(tensor, first, count);
  const RowRun& run = *run_at(*rows, first);
  if (run.to + run.count < first + count) return nullptr;  // in several places
  return source->map(tensor, run.from + (first - run.to), count);
}

std::shared_ptr<const CodedElements> Operand::map_codes(std::uint64_t first,
                                                        std::uint64_t count) const {
  if (rows != nullptr) return nullptr;  // its elements have other numbers
  return source->map_codes(tensor, first, count);
}

void Operand::will_need(std::uint64_t first, std::uint64_t count) const {
  each_run(first, count,
           [&](std::uint64_t from, std::uint64_t part) { source->will_need(tensor, from, part); });
}

}  // namespace thorns
