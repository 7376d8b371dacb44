// Adapters that the real PEFT library made, against what its own merge makes of them.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>
#include <regex>
#include <sstream>
#include <string>

#include "adapter/adapter.h"
#include "adapter/family.h"
#include "checkpoint/config.h"
#include "checkpoint/weights_file.h"
#include "support/error_of.h"
#include "support/golden_fold.h"
#include "support/safetensors_builder.h"
#include "support/temp_folder.h"
#include "thorns/thorns.h"

namespace thorns {
namespace {

const std::string kPeftGolden = std::string(THORNS_TEST_DATA) + "/golden/peft/";

// The folders in one of the two of the golden folder's, by name.
std::vector<std::string> cases_of(const char* folder) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(kPeftGolden + folder)) {
    names.push_back(entry.path().filename());
  }
  std::sort(names.begin(), names.end());
  return names;
}

// PEFT's merge of multi-head attention adds the change of out_proj twice. What it made is checked
// as that: once more the change that is right.
bool peft_adds_twice(const std::string& test, const std::string& tensor) {
  return test == "lora_mha" && tensor == "mha.out_proj.weight";
}

// One tensor of a case.
struct Compared {
  std::string tensor;
  Dtype dtype = Dtype::F32;
  std::vector<double> before;
  std::vector<double> folded;
  std::vector<double> expected;
};

std::vector<Compared> compared(const std::string& name) {
  const std::string folder = kPeftGolden + "folded/" + name;
  const test::Numbers base = test::numbers_of(folder + "/base.safetensors");
  const auto expected = open_weights(real_disk(), folder + "/expected.safetensors");
  test::Numbers written = test::folded(folder + "/base.safetensors", folder + "/adapter");
  EXPECT_EQ(written.size(), expected->tensors().size());
  std::vector<Compared> all;
  for (std::size_t i = 0; i < expected->tensors().size(); ++i) {
    const TensorInfo& info = expected->tensors()[i];
    Compared one{info.name, info.dtype, base.at(info.name), std::move(written.at(info.name)),
                 read_numbers(*expected, i)};
    if (peft_adds_twice(name, info.name)) {
      for (std::size_t k = 0; k < one.expected.size(); ++k) {
        one.expected[k] = (one.expected[k] + one.before[k]) / 2;
      }
    }
    all.push_back(std::move(one));
  }
  return all;
}

class FoldedGolden : public testing::TestWithParam<std::string> {};

TEST_P(FoldedGolden, EqualsPeft) {
  const std::string adapter = kPeftGolden + "folded/" + GetParam() + "/adapter";
  // PEFT 0.17 had another series; and random numbers depend a little on who draws them.
  const bool warned = GetParam() == "oft_017_series" || GetParam().starts_with("vera_seed");
  EXPECT_EQ(open_adapter(real_disk(), adapter)->warnings().size(), warned ? 1U : 0U);
  std::size_t changed = 0;
  for (const Compared& one : compared(GetParam())) {
    ASSERT_EQ(one.folded.size(), one.expected.size()) << one.tensor;
    for (std::size_t k = 0; k < one.expected.size(); ++k) {
      if (one.dtype == Dtype::F32) {
        ASSERT_NEAR(one.folded[k], one.expected[k], 2e-6) << one.tensor << " " << k;
      } else {
        ASSERT_EQ(one.folded[k], one.expected[k]) << one.tensor << " " << k;
      }
    }
    changed += one.expected != one.before;
  }
  EXPECT_GT(changed, 0U);
}

INSTANTIATE_TEST_SUITE_P(Peft, FoldedGolden, testing::ValuesIn(cases_of("folded")),
                         [](const auto& info) { return info.param; });

// A configuration may say LORA and lie; the tensors give the type away.
TEST(RefusedGolden, TensorsOfOtherTypesAreNotTakenForLora) {
  std::size_t tried = 0;
  for (const std::string& name : cases_of("folded")) {
    SCOPED_TRACE(name);
    const std::string adapter = kPeftGolden + "folded/" + name + "/adapter";
    const std::string type =
        read_json_file(real_disk(), adapter + "/adapter_config.json").at("peft_type");
    // The tensors of these replace the model's and look like modules_to_save.
    if (type == "LORA" || type == "LN_TUNING" || type == "TRAINABLE_TOKENS") continue;
    const test::TempFolder folder;
    std::filesystem::copy_file(adapter + "/adapter_model.safetensors",
                               folder / "adapter_model.safetensors");
    test::write_file(folder / "adapter_config.json", R"({"peft_type":"LORA"})");
    EXPECT_EQ(test::error_of([&] { open_adapter(real_disk(), folder.path()); }).code(),
              ErrorCode::Unsupported);
    ++tried;
  }
  EXPECT_GT(tried, 20U);
}

// ---------------------------------------------------------------- the table in docs/adapters.md

struct Checked {
  std::size_t cases = 0;
  std::size_t half = 0;  // of them in bfloat16, where every bit is equal
  double largest = 0;    // difference in float32
};

// By the family's name.
std::map<std::string, Checked> checked_families() {
  std::map<std::string, Checked> all;
  for (const std::string& name : cases_of("folded")) {
    const std::string adapter = kPeftGolden + "folded/" + name + "/adapter";
    Checked& family = all[open_adapter(real_disk(), adapter)->family()];
    ++family.cases;
    bool half = false;
    for (const Compared& one : compared(name)) {
      half = half || one.dtype == Dtype::BF16;
      for (std::size_t k = 0; k < one.expected.size(); ++k) {
        family.largest = std::max(family.largest, std::abs(one.folded[k] - one.expected[k]));
      }
    }
    family.half += half;
  }
  return all;
}

// "1.2·10⁻⁷"
std::string scientific(double value) {
  if (value == 0) return "0";
  static const char* const kDigits[] = {"⁰", "¹", "²", "³", "⁴", "⁵", "⁶", "⁷", "⁸", "⁹"};
  const std::string text = fmt::format("{:.1e}", value);  // "1.2e-07"
  std::string raised;
  for (const char digit : std::to_string(std::stoi(text.substr(text.find('e') + 1)))) {
    raised += digit == '-' ? "⁻" : kDigits[digit - '0'];
  }
  return text.substr(0, text.find('e')) + "·10" + raised;
}

// The table without its last column, whose numbers are appended to `differences`.
std::string without_differences(const std::string& table, std::vector<double>& differences) {
  static const std::regex row("(.*\\| )([0-9.]+)(?:·10⁻(⁰|¹|²|³|⁴|⁵|⁶|⁷|⁸|⁹))? \\|");
  static const std::vector<std::string> digits = {"⁰", "¹", "²", "³", "⁴", "⁵", "⁶", "⁷", "⁸", "⁹"};
  std::istringstream lines(table);
  std::string result;
  for (std::string line; std::getline(lines, line);) {
    std::smatch match;
    if (std::regex_match(line, match, row)) {
      const auto power = std::find(digits.begin(), digits.end(), match[3].str());
      const double scale =
          power == digits.end() ? 1 : std::pow(10.0, -static_cast<double>(power - digits.begin()));
      differences.push_back(std::stod(match[2]) * scale);
      line = match[1];
    }
    result += line + "\n";
  }
  return result;
}

TEST(AdaptersTable, IsWhatTheCatalogueAndTheGoldenCasesMake) {
  const auto checked = checked_families();
  std::vector<double> largest;
  std::string table =
      "| family | update of a weight W (out × in) | layers | checked against PEFT | largest "
      "difference |\n|---|---|---|---|---|\n";
  const auto add = [&](const std::string& name, const std::string& reference,
                       const std::string& update, const std::string& layers) {
    table += fmt::format("| {} ({}) | {} | {} | ", name, reference, update, layers);
    if (checked.count(name) == 0) {
      table += "none | |\n";
      return;
    }
    const Checked& by = checked.at(name);
    table += fmt::format("{} adapter{}{} | {} |\n", by.cases, by.cases == 1 ? "" : "s",
                         by.half == 0 ? "" : fmt::format(", {} in bfloat16", by.half),
                         scientific(by.largest));
    largest.push_back(by.largest);
  };
  for (const AdapterFamily& family : family_catalogue()) {
    add(family.name, family.reference, family.update, family.layers);
    for (const auto& variant : family.variants) {
      add(variant.name, variant.reference, variant.update, "as " + family.name);
    }
  }
  const std::string page = read_text(real_disk(), THORNS_TEST_DATA "/../docs/adapters.md", 1 << 20);
  const std::size_t begin = page.find("| family | update of");
  ASSERT_NE(begin, page.npos);
  // The differences are roundings, and depend a little on the CPU's instructions.
  std::vector<double> documented;
  EXPECT_EQ(
      without_differences(page.substr(begin, page.find("\n\n", begin) + 1 - begin), documented),
      without_differences(table, documented))
      << "put this table into docs/adapters.md:\n"
      << table;
  ASSERT_EQ(documented.size(), 2 * largest.size());
  for (std::size_t i = 0; i < largest.size(); ++i) EXPECT_LE(largest[i], 4 * documented[i]) << i;
}

}  // namespace
}  // namespace thorns
