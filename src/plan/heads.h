// Output heads that are embeddings, and one embedding for two sides: which folds part them, and
// what is said of it. Private to this room.
#pragma once

#include <cstddef>
#include <vector>

#include "plan/build.h"

namespace thorns {

// Of a fold into a model whose head is its embedding: what it does to both alike is done once.
void settle_head(Workshop& workshop, std::size_t fold, const LeafView& view);

// Whether some fold changes a head by itself, or parts one from its embedding.
bool folds_into_head(const Workshop& workshop);

// Says that what an adapter does to the embedding of one side (T5's encoder or decoder) is done to
// that of both. Throws Unsupported where it saved one for a side: that is not given to both.
void warn_of_shared(Plan& plan, const FoldNode& fold, const Adapter& adapter,
                    const std::vector<TensorInfo>& tensors);

// Transformers would ignore the head that such a leaf stores, or its embedding, by version.
void warn_of_heads(Plan& plan, const std::vector<LeafView>& views);

// A model without a head of its own joins others that have one.
void warn_of_untied(Plan& plan, const std::vector<LeafView>& views);

// T5 and its kin scale what their head is given, but by their configuration only while that is the
// embedding. Where the output parts the two, a field of transformers 5 says it instead; models
// without that field join `problems`.
void keep_scale_of_head(Plan& plan, const std::vector<LeafView>& views,
                        std::vector<Error>& problems);

}  // namespace thorns
