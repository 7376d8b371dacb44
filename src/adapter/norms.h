// How much an adapter adds, as far as it says so itself.
#pragma once

#include <cstdint>
#include <optional>

#include "adapter/adapter.h"

namespace thorns {

// The Frobenius norm of what `update` adds, scale included; none where that depends on the model,
// or on a shape that the adapter's tensors do not tell. A product B A is never formed: its squared
// norm is the sum over the elements of (B^T B) * (A A^T), in float64 (two rank x rank matrices), so
// that a norm below about 1e-8 of |B| |A| is lost in rounding. NaN where a factor holds NaN or Inf.
// Throws what the adapter's source throws. Any thread may call it.
std::optional<double> norm_alone(const Adapter& adapter, const Update& update);

// Bytes that norm_alone holds, at most.
std::uint64_t norm_memory(const Update& update);

}  // namespace thorns
