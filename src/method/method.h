// What a merge method is, and the catalogue of all of them. One file per method; each registers
// itself.
//
// A span method blends m models of one tensor into one weighted sum of them, and needs for this
// nothing but their Gram matrix: the m x m inner products of the flattened tensors.
#pragma once

#include <cstddef>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace thorns {

enum class ParameterType { Number, Flag };

struct Parameter {
  std::string name;
  ParameterType type = ParameterType::Number;
  std::optional<double> default_value;  // Flag: 0 or 1; nullopt: derived, see help
  double least = -std::numeric_limits<double>::infinity();
  double most = std::numeric_limits<double>::infinity();
  std::string help;  // one line
};

// The inner products of the models at one node, row-major.
class Gram {
 public:
  Gram(std::span<const double> products, std::size_t models)
      : products_(products), models_(models) {}
  double operator()(std::size_t i, std::size_t j) const { return products_[i * models_ + j]; }
  std::size_t models() const { return models_; }

 private:
  std::span<const double> products_;
  std::size_t models_;
};

// Parameters as they are for one tensor, gradients and filters already evaluated. Indexed like
// SpanMethod::parameters(); nullopt where the recipe does not set it and it has no default.
using ParameterValues = std::span<const std::optional<double>>;

struct Coefficients {
  std::vector<double> values;   // one per model
  std::optional<double> angle;  // radians between two models, where the method measures it
  bool fell_back = false;       // linear interpolation was used where the formula is undefined
};

// A parameter's setting in a recipe: one number, or a gradient over the layers.
struct Setting {
  std::size_t parameter = 0;   // index in parameters()
  std::string filter;          // substring of the tensor name; empty matches all
  std::vector<double> values;  // one, or the entries of a gradient
};

class SpanMethod {
 public:
  virtual ~SpanMethod() = default;
  virtual const std::string& name() const = 0;       // as in a key
  virtual const std::string& summary() const = 0;    // one line
  virtual const std::string& reference() const = 0;  // paper or program, year
  virtual const std::vector<Parameter>& parameters() const = 0;
  virtual std::size_t least_models() const = 0;
  virtual std::size_t most_models() const = 0;

  // A reason why this use makes no sense, before any tensor is seen: message and hint, without a
  // place.
  struct Complaint {
    std::string message;
    std::string hint;
  };
  // `weights`: one per model as written, empty where the key gives none. `settings`: what the key
  // sets.
  virtual std::optional<Complaint> check(std::size_t models, std::span<const double> weights,
                                         std::span<const Setting> settings) const = 0;

  // `weights`: one per model, 1 where the key gives none. Must not throw.
  virtual Coefficients coefficients(const Gram& gram, std::span<const double> weights,
                                    ParameterValues parameters) const = 0;
};

// All methods, by name. The pointers live for the whole program.
const std::vector<const SpanMethod*>& method_catalogue();
const SpanMethod* find_method(std::string_view name);

// Registers a method at program start: `const RegisterMethod
// registered(std::make_unique<Slerp>());`
class RegisterMethod {
 public:
  explicit RegisterMethod(const SpanMethod* method);  // must live for the whole program
};

// Where a tensor stands in the layer stack.
struct LayerPosition {
  enum Part { Before, Inside, After } part = Before;
  std::size_t layer = 0;   // Inside only
  std::size_t layers = 1;  // of the stack
};

// The layer stack of a model, from its tensor names: the number that follows ".layers.", ".h.",
// ".blocks.", ... ; embeddings stand before it, all else after.
class LayerStack {
 public:
  explicit LayerStack(std::span<const std::string> tensor_names);
  LayerPosition position(std::string_view tensor_name) const;
  std::size_t layers() const { return layers_; }

 private:
  std::size_t layers_ = 0;
};

// A gradient at a layer: entry positions run evenly from layer 0 to layer L-1, linear between them;
// before the stack the first entry, after it the last.
double gradient_at(std::span<const double> entries, const LayerPosition& position);

// All parameters of a method for one tensor: per parameter the first setting whose filter matches,
// else the default.
std::vector<std::optional<double>> evaluate(const SpanMethod& method,
                                            std::span<const Setting> settings,
                                            std::string_view tensor_name,
                                            const LayerPosition& position);

}  // namespace thorns
