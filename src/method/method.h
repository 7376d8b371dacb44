// What a merge method is, and the catalogue of all of them. One file per method; each registers
// itself.
//
// A span method blends m models of one tensor into one weighted sum of them, and needs for this
// nothing but their Gram matrix: the m x m inner products of the flattened tensors.
#pragma once

#include <cstddef>
#include <functional>
#include <limits>
#include <map>
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

// How a recipe uses a method at one node, before any tensor is seen.
struct MethodUse {
  std::size_t models = 0;
  std::span<const double> weights;  // one per model; empty where the recipe gives none
  std::span<const Setting> settings;
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

  // A reason why a use makes no sense: message and hint, without a place. Where it is about one
  // setting, `setting` is its index in MethodUse::settings.
  struct Complaint {
    std::string message;
    std::string hint;
    std::optional<std::size_t> setting = std::nullopt;
  };
  // Settings are known to be in the range and of the type of their parameters. Coefficients of a
  // use without complaint are finite wherever the Gram matrix is.
  virtual std::optional<Complaint> check(const MethodUse& use) const = 0;

  // `weights`: one per model, 1 where the key gives none. Must not throw.
  virtual Coefficients coefficients(const Gram& gram, std::span<const double> weights,
                                    ParameterValues parameters) const = 0;
};

// All methods, by name. The pointers live for the whole program.
const std::vector<const SpanMethod*>& method_catalogue();
const SpanMethod* find_method(std::string_view name);

// Registers a method at program start: `const Slerp method; const RegisterMethod
// registered(&method);` at namespace scope.
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

// The layer stacks of a model, from its tensor names. A tensor stands in a stack where a dotted
// component of its name is a number and follows a component such as "layers", "h" or "blocks" (the
// first such pair counts); names that agree up to that number are one stack, as tall as its largest
// number + 1. Outside, embeddings stand before the stack and all else after it.
class LayerStack {
 public:
  explicit LayerStack(std::span<const std::string> tensor_names);
  LayerPosition position(std::string_view tensor_name) const;
  std::size_t layers() const;  // of the tallest stack; 0 where there is none

 private:
  std::map<std::string, std::size_t, std::less<>> heights_;  // by prefix: "model.layers"
};

// A gradient at a layer: entry positions run evenly from layer 0 to layer L-1, linear between them;
// before the stack the first entry, after it the last. A stack of one layer takes the first.
// `entries` holds at least one.
double gradient_at(std::span<const double> entries, const LayerPosition& position);

// All parameters of a method for one tensor: per parameter the first setting whose filter matches,
// else the default.
std::vector<std::optional<double>> evaluate(const SpanMethod& method,
                                            std::span<const Setting> settings,
                                            std::string_view tensor_name,
                                            const LayerPosition& position);

}  // namespace thorns
