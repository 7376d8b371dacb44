#include "adapter/family.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>

namespace thorns {
namespace {

TEST(FamilyCatalogue, EveryFamilySaysWhatItIs) {
  const auto& all = family_catalogue();
  EXPECT_TRUE(std::is_sorted(all.begin(), all.end(),
                             [](const auto& a, const auto& b) { return a.type < b.type; }));
  for (const AdapterFamily& family : all) {
    SCOPED_TRACE(family.type);
    EXPECT_EQ(find_family(family.type), &family) << "two families of one type";
    EXPECT_TRUE(std::none_of(family.type.begin(), family.type.end(),
                             [](unsigned char c) { return std::islower(c); }));
    for (const std::string* text :
         {&family.name, &family.reference, &family.update, &family.layers}) {
      EXPECT_FALSE(text->empty());
      EXPECT_EQ(text->find_first_of("|\n"), text->npos) << "does not fit into a table: " << *text;
    }
    for (const auto& variant : family.variants) {
      EXPECT_FALSE(variant.name.empty() || variant.reference.empty() || variant.update.empty());
      EXPECT_NE(variant.is, nullptr);
    }
    EXPECT_NE(family.fold, nullptr);
    EXPECT_FALSE(family.tensors.empty());
  }
  EXPECT_EQ(find_family("lora"), nullptr);
}

// A key tells whose tensor it is, so no two families may own one name.
TEST(FamilyCatalogue, EveryTensorBelongsToOneFamily) {
  for (const AdapterFamily& family : family_catalogue()) {
    SCOPED_TRACE(family.type);
    for (const auto* names : {&family.tensors, &family.shared}) {
      for (const std::string& name : *names) {
        EXPECT_EQ(family_of_tensor(name), &family) << name;
        EXPECT_TRUE(family.knows(name));
      }
    }
    for (const std::string& name : family.borrowed) {
      ASSERT_NE(family_of_tensor(name), nullptr) << name;
      EXPECT_NE(family_of_tensor(name), &family) << name;
      EXPECT_TRUE(family.knows(name));
    }
  }
  EXPECT_EQ(family_of_tensor("weight"), nullptr);
  EXPECT_EQ(family_of_tensor("lora_A")->name, "LoRA");
  EXPECT_FALSE(find_family("LORA")->knows("lora_E"));
}

}  // namespace
}  // namespace thorns
