// A sink that compares instead of writing: every tensor as it is made, with the one that a finished
// folder holds. It keeps one file open and a few kilobytes, whatever the size of the model.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/disk.h"
#include "checkpoint/source.h"
#include "plan/plan.h"
#include "plan/sink.h"

namespace thorns {

struct TensorDifference {
  std::string tensor;
  std::string file;           // relative to the folder
  std::uint64_t element = 0;  // the first that differs
  std::string stored;         // its value, as people write numbers
  std::string made;
};

class Comparison : public Sink {
 public:
  // All arguments must outlive this. A tensor that the folder does not hold as the plan makes it
  // (file, type, shape), or in a file that cannot be read, is passed over.
  Comparison(Disk& disk, const std::string& folder, const Plan& plan);

  // Throws what reading the folder throws.
  void write(std::size_t program, std::span<const std::byte> bytes) override;
  void finished(std::size_t program, const TensorFacts& facts) override;

  const std::optional<TensorDifference>& first() const { return first_; }
  std::uint64_t compared() const { return compared_; }    // tensors
  std::uint64_t differing() const { return differing_; }  // of them
  std::uint64_t bytes_read() const { return bytes_read_; }
  // Per program; empty for those that have not been finished.
  const std::vector<TensorFacts>& facts() const { return facts_; }

 private:
  void begin(std::size_t program);
  std::unique_ptr<TensorSource> open_stored() const;
  void compare(std::span<const std::byte> made);

  Disk& disk_;
  const std::string& folder_;
  const Plan& plan_;
  std::size_t shard_ = 0;  // the program's
  std::string open_name_;
  std::unique_ptr<TensorSource> open_;  // that shard; null where it cannot be read
  // Of the program at hand.
  bool begun_ = false;
  std::optional<std::size_t> stored_;  // in open_; none where there is nothing to compare with
  std::uint64_t element_ = 0;          // next to come
  bool differs_ = false;

  std::optional<TensorDifference> first_;
  std::uint64_t compared_ = 0;
  std::uint64_t differing_ = 0;
  std::uint64_t bytes_read_ = 0;
  std::vector<TensorFacts> facts_;
};

}  // namespace thorns
