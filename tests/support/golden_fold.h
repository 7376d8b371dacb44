// What the whole program makes of other people's models and adapters, as numbers.
#pragma once

#include <gtest/gtest.h>

#include <cstddef>
#include <map>
#include <string>
#include <vector>

#include "adapter/numbers.h"
#include "checkpoint/weights_file.h"
#include "support/temp_folder.h"
#include "thorns/thorns.h"

namespace thorns::test {

using Numbers = std::map<std::string, std::vector<double>>;  // by tensor

// All tensors of one weights file.
inline Numbers numbers_of(const std::string& path) {
  const auto source = open_weights(real_disk(), path);
  Numbers numbers;
  for (std::size_t i = 0; i < source->tensors().size(); ++i) {
    numbers[source->tensors()[i].name] = read_numbers(*source, i);
  }
  return numbers;
}

// That the same tensors are there, with numbers that differ by `most` at the most.
inline void expect_near(const Numbers& got, const Numbers& expected, double most) {
  ASSERT_EQ(got.size(), expected.size());
  for (const auto& [name, right] : expected) {
    const std::vector<double>& values = got.at(name);
    ASSERT_EQ(values.size(), right.size()) << name;
    for (std::size_t k = 0; k < right.size(); ++k) {
      ASSERT_NEAR(values[k], right[k], most) << name << " " << k;
    }
  }
}

// The model with the adapter folded in.
inline Numbers folded(const std::string& model, const std::string& adapter) {
  const TempFolder out;
  MergeOptions options;
  options.recipe = "Base[L]";
  options.inputs.models = {{"Base", model}};
  options.inputs.adapters = {{"L", adapter}};
  options.output = out / "merged";
  options.threads = 2;
  Observer silent;
  merge(options, silent);
  return numbers_of(options.output + "/model.safetensors");
}

}  // namespace thorns::test
