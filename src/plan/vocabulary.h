// What the token rows of a merge stand for, where `union` matches them by the tokens' texts.
//
// The rows of the model whose tokenizer the output gets come first and keep their places; the
// tokens that only others have follow behind its last token, in the order of the recipe. Rows
// without a token (padding, holes between ids) stay where they are by number; those whose place a
// token took are dropped.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "checkpoint/tokens.h"
#include "plan/match.h"
#include "plan/plan.h"

namespace thorns {

struct Vocabulary {
  struct NewToken {
    ModelToken token;  // its id is the row in the output
    std::size_t leaf = 0;
    std::uint64_t id_there = 0;  // its row in that leaf
  };
  struct Leaf {
    std::vector<std::uint64_t> row_of;  // by id: the row in the output; kNoRow where no token is
    std::uint64_t tokens = 0;
    std::uint64_t moved = 0;    // tokens whose row is not their id
    std::uint64_t shared = 0;   // tokens that the base has, too
    std::uint64_t dropped = 0;  // rows without a token whose place is taken
  };
  static constexpr std::uint64_t kNoRow = ~std::uint64_t{0};

  std::size_t base = 0;         // the leaf whose tokenizer the output gets
  std::uint64_t base_end = 0;   // behind its last token
  std::vector<NewToken> added;  // rows base_end, base_end + 1, ...
  std::vector<Leaf> leaves;     // like Recipe::leaves
  std::vector<bool> is_token;   // by row of the output

  // The output's row of a leaf's token; the same where the id stands for none.
  std::uint64_t row_of(std::size_t leaf, std::uint64_t id) const;
};

// Compares the tokenizers of all leaves and says in plan.warnings what came of it. Where they
// differ, plan.vocabulary is set, and the views get the places of their rows. Where the tokens of a
// leaf cannot be told, rows stay matched by number. plan.tokenizer_leaf must be chosen.
void align_by_text(Disk& disk, Plan& plan, std::vector<LeafView>& views);

}  // namespace thorns
