#include "output/key_legend.h"

#include <gtest/gtest.h>

namespace thorns {
namespace {

using Lines = std::vector<LegendLine>;
const LegendLine kSlerp{"{}", "SLERP Merge"};
const LegendLine kFold{"[]", "PEFT Merge"};
const LegendLine kComposite{"()", "Composite Model"};

TEST(KeyLegend, NamesTheBracketsThatOccur) {
  const std::vector<std::pair<const char*, Lines>> cases = {
      {"({({NousHermes+Chronos}[Kimiko])+({Platupus+AiroborosM2.0}[Janine])}{Holodeck[LIMA RP]})",
       {kSlerp, kFold, kComposite}},
      {"A", {}},
      {"{A+B}", {kSlerp}},
      {"A[L]", {kFold}},
      {"(A[L])", {kFold, kComposite}},
      {"{A+B; t(attn)=[0, 1], t=0.5}", {kSlerp}},
      {"{A+B; t=[0,1]}[L]", {kSlerp, kFold}},
      {"{A[L; x(y)=1] + B}", {kSlerp, kFold}},
      {R"key({"A (old) [x]"+"q\"(z)"})key", {kSlerp}},
      {R"key({"A;"+(B)})key", {kSlerp, kComposite}},
      {"{A+B; slerp, t=0.25}", {kSlerp}},
      {"{A+B; linear}", {{"{...; linear}", "linear merge"}}},
      {"{A+B;\"linear\"}", {{"{...; linear}", "linear merge"}}},
      {"{{A+B; linear, x=1}+{C+D; linear}}", {kSlerp, {"{...; linear}", "linear merge"}}},
      {"{\"A", {}},
      {"]})", {}},
  };
  for (const auto& [key, expected] : cases) EXPECT_EQ(key_legend({key}), expected) << key;
}

TEST(KeyLegend, OfSeveralKeys) {
  EXPECT_EQ(key_legend({"(Logic{Imagination})", "Holodeck[LIMA RP]"}),
            (Lines{kSlerp, kFold, kComposite}));
}

}  // namespace
}  // namespace thorns
