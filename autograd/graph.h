#pragma once

#include <autograd/parallel.h>
#include <autograd/parameter.h>
#include <autograd/plan.h>
#include <autograd/random.h>

#include <memory>
#include <span>
#include <type_traits>
#include <vector>

namespace unroll {
class Var;
}

namespace unroll::detail {

using NodeId = std::uint32_t;
inline constexpr NodeId no_node = ~NodeId{0};
/// In place of the view that claimed a part: a view that is no longer on the tape, and had filled it.
inline constexpr NodeId filled = no_node - 1;

class Graph;
class Watch;

/// What the nodes of one operation have in common.
struct Operation {
  const char* name;
  /// Adds dL/d(input) to the gradient of every input that needs one. Null for leaves and views.
  void (*backward)(Graph&, NodeId);
  /// For profiles: the floating-point operations of one call, forward or backward. Null where nobody counts them.
  double (*flops)(const Graph&, NodeId, std::span<const NodeId> inputs, bool backward) = nullptr;
};

/// What is in a node's gradient during a sweep. The first contribution to a region is written, the
/// following ones are added, so nothing has to be set to zero beforehand.
enum class GradState : std::uint8_t {
  none,   ///< nothing: the memory is not initialised
  split,  ///< some of the equal parts listed in `Node::split`
  whole,  ///< every element
};

/// The equal parts, along one axis, that views have split a gradient into.
struct Split {
  const NodeLayout* layout;  ///< what is split: its value's layout and memory
  const std::byte* value;
  int axis;
  Index parts;
  NodeId* owner;  ///< for each part the view that claimed it; `filled`; or no_node
};

/// A view that is one of the equal parts of its parent along an axis: what `chunk` and `v[t]` give.
struct Part {
  NodeId parent = no_node;  ///< the view or node that was split
  int axis = 0;
  Index parts = 1;
  Index index = 0;
};

/// What the tape remembers of a matrix that is the right-hand factor of products.
struct Factor {
  std::uint32_t uses = 0;
  std::byte* packed = nullptr;  ///< its values as the product's kernels read them, once they are (see gemm.h)
  std::size_t made_at = 0, packed_at = 0;  ///< the numbers of nodes then
  std::uint64_t version = 0;               ///< of the parameter's values
};

/// What a sweep remembers of it. See weight_gradient.h.
struct WeightSweep;

/// One recorded value. Nodes are plain bytes in one vector: dropping them all is free. Each is two lines of the cache.
struct alignas(64) Node {
  const Operation* operation;
  const NodeLayout* layout;
  std::byte* value = nullptr;
  std::byte* grad = nullptr;  ///< of a base: its gradient's memory, of the layout of its value
  const NodeId* inputs = nullptr;
  const void* payload = nullptr;  ///< the operation's constants; a Part; a Parameter
  const char* file;
  Split* split = nullptr;
  Factor* factor = nullptr;
  WeightSweep* weight = nullptr;
  int line;
  std::uint32_t stamp;      ///< tells a node from an earlier one in its place
  NodeId base;              ///< the node that owns the memory
  NodeId region;            ///< the node whose `state` speaks for this one's gradient
  std::uint32_t sweep = 0;  ///< the sweep that `state`, `split` and `weight` belong to
  std::uint32_t input_count = 0;
  std::uint32_t uses = 0;      ///< of a region: how many inputs of operations see it directly
  NodeId last_part = no_node;  ///< of a region: the newest of the parts taken of it
  NodeId hands_on = no_node;   ///< the input to whose gradient this node's own is added as it is
  DType dtype;
  GradState state = GradState::none;
  bool needs_grad = false;
  bool keeps_grad = false;  ///< the gradient outlives the sweep: leaves, and by request
  bool is_part = false;     ///< `payload` is a Part
  bool irregular = false;   ///< a view whose gradient can't be told apart from its region's
  bool is_parameter = false;
  bool parts_may_overlap = false;  ///< of a region: its parts were not taken in order, or not of one division
  bool borrows = false;            ///< `grad` is where `hands_on` has its own

  // Member by member: GCC would set a Node without a constructor to zero first, by an instruction that is slow to
  // start.
  Node(const Operation* o, const NodeLayout* l, DType type, Source where, std::uint32_t new_stamp, NodeId self)
      : operation(o),
        layout(l),
        file(where.file),
        line(where.line),
        stamp(new_stamp),
        base(self),
        region(self),
        dtype(type) {}
  Index count() const { return layout->shape.count(); }
  std::size_t bytes() const { return static_cast<std::size_t>(count()) * size_of(dtype); }
  bool is_base(NodeId self) const { return base == self; }
  Source source() const { return {file, line}; }
  std::span<const NodeId> input_ids() const { return {inputs, input_count}; }
};
static_assert(std::is_trivially_destructible_v<Node>);

/// Where a contribution to a gradient goes. When `fresh`, every element must be written; otherwise added.
struct GradTarget {
  std::byte* data;
  bool fresh;
};

/// Where generators stood when a checkpoint drew from them.
struct Draw {
  Generator* generator;
  Generator before;
};

/// The draws of the checkpoints that are being recorded, and those that are being repeated.
struct Draws {
  std::vector<Draw> noted;
  int noting = 0;               ///< how many checkpoints are
  std::span<const Draw> again;  ///< still to come in a repetition
};

/// The tape's insides: nodes in creation order, their memory, and the sweep over them.
class Graph {
 public:
  /// With `dual`, every leaf becomes a pair of value and tangent, whatever its tensor's type: see dual.h.
  explicit Graph(bool recording, bool dual = false);
  ~Graph();

  // --- Recording -----------------------------------------------------------------------------------
  /// The node behind a Var. Throws Error when it belongs to another tape or to a cleared one.
  NodeId check(const Var& var, const char* function, Source where) const;  // in var.h
  Var var(NodeId id);
  /// A leaf with a copy of the tensor.
  NodeId add_leaf(const TensorView& tensor, bool needs_grad, Source where);
  /// A leaf that no gradient is wanted for and whose memory the caller is to fill.
  NodeId add_leaf(const Shape& shape, DType dtype, Source where);
  NodeId bind(Parameter& parameter, Source where);
  /// On a dual tape: the values that a leaf's (or parameter's) tangents are to have; zeros until then.
  void set_tangent(NodeId leaf, const TensorView& tangent);
  // Recording is counted in nanoseconds: a Source passed on the stack would cost two of them, so the functions below
  // have as many arguments as fit in registers.

  /// A node whose memory is its own and not yet written, of its inputs' type. `inputs` and what `payload` points to
  /// are kept only where the sweep will need them.
  NodeId add(const Operation& operation, std::span<const NodeId> inputs, const NodeLayout* layout, Source where);
  /// The same in less time, of one to four inputs.
  template <std::size_t N>
  NodeId add(const Operation& operation, std::span<const NodeId, N> inputs, const NodeLayout* layout, Source where);
  /// A node that looks at an input's memory, `offset` elements from its first, and sees no element twice.
  NodeId add_view(NodeId input, const NodeLayout* layout, Index offset, Source where);
  /// One that sees one of the equal parts of it.
  NodeId add_part(const Part& part, const NodeLayout* layout, Index offset, Source where);
  /// All of them, one after another, each `distance` elements from the one before; the result is the first, and `part`
  /// says what it is.
  NodeId add_parts(Part part, const NodeLayout* layout, Index distance, Source where);
  /// The input itself when its rows are contiguous, else a copy of it that is.
  NodeId rowwise(NodeId id, Source where);
  NodeId contiguous(NodeId id, Source where);
  /// Keeps a plain value for the operation's backward.
  template <class T>
  void keep(NodeId id, const T& payload) {
    static_assert(std::is_trivially_copyable_v<T> && std::is_trivially_destructible_v<T>,
                  "what an operation keeps is dropped without a destructor: it must be plain data");
    if (!nodes_[id].needs_grad) return;
    nodes_[id].payload = new (arena_.allocate(sizeof(T), alignof(T))) T(payload);
  }
  const NodeLayout* layout(const Shape& shape) { return plans_.layout(shape); }
  Plans& plans() { return plans_; }
  Team& team() { return team_; }
  Draws& draws() { return draws_; }
  Arena& arena() { return arena_; }
  Factor& factor(NodeId id);
  /// Memory that lasts until the tape is cleared (or rewound).
  void* allocate(std::size_t bytes) { return arena_.allocate(bytes); }
  template <class T>
  T* array(std::size_t count) {
    return arena_.array<T>(count);
  }

  /// Memory taken while the result lives is given back at its end. Nothing may be recorded meanwhile.
  class Scratch {
   public:
    explicit Scratch(Arena& arena) : arena_(arena), mark_(arena.mark()) {}
    ~Scratch() { arena_.rewind_to(mark_); }
    Scratch(const Scratch&) = delete;
    Scratch& operator=(const Scratch&) = delete;

   private:
    Arena& arena_;
    Arena::Mark mark_;
  };
  Scratch scratch() { return Scratch(arena_); }

  /// To be called when a node's value has been computed: see watch.h.
  void computed(NodeId id, std::span<const NodeId> inputs) {
    if (watch_ != nullptr) [[unlikely]]
      note_computed(id, inputs);
  }
  Watch& watch();
  bool watched() const { return watch_ != nullptr; }
  /// Nobody is watching any more.
  void unwatch();

  Node& node(NodeId id) { return nodes_[id]; }
  const Node& node(NodeId id) const { return nodes_[id]; }
  template <class T>
  T* value(NodeId id) {
    return reinterpret_cast<T*>(nodes_[id].value);
  }
  template <class T>
  const T& payload(NodeId id) const {
    return *static_cast<const T*>(nodes_[id].payload);
  }
  TensorView view(NodeId id) const { return {nodes_[id].value, nodes_[id].dtype, *nodes_[id].layout}; }
  /// What users see: of Duals, the values (or tangents) alone.
  TensorView shown(const TensorView& view, bool tangents = false) const;
  bool recording() const { return recording_; }
  bool dual() const { return dual_; }
  /// To be called before random numbers are drawn from a generator: when a checkpoint runs again, it is set back to
  /// where it stood the first time.
  void draws_from(Generator& generator);

  // --- Sweeping (backward.cpp) ------------------------------------------------------------------------
  void backward(NodeId output, const TensorView* seed, Source where);
  /// The gradients of these alone; nothing that outlives the call changes.
  std::vector<Tensor> gradients(NodeId output, const TensorView* seed, std::span<const NodeId> wanted, Source where);
  /// Memory for a contribution to a node's gradient, laid out like its value.
  GradTarget target(NodeId id);
  /// The same, always initialised: to be added to.
  std::byte* accumulator(NodeId id);
  /// The same for an operation that adds to the given rows of the first axis (but `without`) alone: of a sparse
  /// parameter, only these are touched.
  std::byte* row_accumulator(NodeId id, std::span<const std::int32_t> rows, Index without);
  /// The kept gradient. Throws Error when there is none.
  TensorView grad(NodeId id, Source where) const;
  /// Gradient-time memory that is given back during the sweep.
  BufferPool& pool() { return pool_; }
  bool current(const Node& node) const { return node.sweep == sweep_; }
  /// The sweep over the nodes from the last to `first`, which have just been recorded by a backward.
  void sweep_down_to(NodeId first);
  /// The node, with what an earlier sweep left in it forgotten.
  Node& touch(NodeId id) { return touch(nodes_[id]); }

  // --- Whole tape -------------------------------------------------------------------------------------
  struct Mark {
    Arena::Mark arena;
    std::size_t nodes = 0;
    std::uint32_t stamp = 0;
  };
  Mark mark() const { return {arena_.mark(), nodes_.size(), stamp_}; }
  void rewind_to(const Mark& mark, Source where);
  void clear() { rewind_to({}, Source::here()); }
  std::size_t size() const { return nodes_.size(); }
  std::size_t bytes_in_use() const { return arena_.used() + pool_.used() + nodes_.size() * sizeof(Node); }
  std::size_t bytes_held() const {
    return arena_.capacity() + pool_.capacity() + plans_.bytes_held() + nodes_.capacity() * sizeof(Node);
  }

 private:
  void note_computed(NodeId id, std::span<const NodeId> inputs);
  [[noreturn]] void refuse(const Var& var, const char* function, Source where) const;
  void check_room(Index more, Source where) const;
  NodeId append(const Operation* operation, const NodeLayout* layout, DType dtype, Source where);
  std::byte* grad_memory(const Node& node) const;
  Node& touch(Node& node) {
    if (!current(node)) {
      node.sweep = sweep_;
      node.state = GradState::none;
      node.split = nullptr;
      node.weight = nullptr;
    }
    return node;
  }
  void check_output(NodeId output, const TensorView* seed, const char* function, Source where) const;
  void sweep(NodeId output, const TensorView* seed);
  void sweep(NodeId last, NodeId first);
  void finish(NodeId weight);
  void let_go(NodeId part);
  void start_sweep(NodeId output, const TensorView* seed);
  bool can_borrow(NodeId region) const;
  bool borrow(Node& base);
  bool claim(NodeId region);
  bool claim_base(Node& base);
  bool claim_part(NodeId region);
  bool claim_vacant(NodeId part, Node& node);
  GradTarget target_in_region(NodeId id);
  void zero_part(const Node& node, const Split& split, Index index);
  void complete(NodeId region);

  Arena arena_;
  BufferPool pool_;
  Plans plans_;
  Team team_;
  std::vector<Node> nodes_;
  /// Open addressing, a power of two long: the node of every parameter used since the last clear.
  struct Binding {
    const Parameter* parameter = nullptr;
    NodeId node = no_node;
  };
  Binding& binding(const Parameter& parameter);
  bool is_bound(const Binding& binding) const;
  std::vector<Binding> bindings_;
  std::vector<NodeId> factors_;  ///< the nodes that have a Factor
  std::size_t binding_count_ = 0;
  std::uint32_t stamp_ = 1;
  std::uint32_t sweep_ = 0;
  bool recording_, dual_;
  bool for_list_ = false;  ///< the sweep is one of `gradients`
  Draws draws_;
  std::unique_ptr<Watch> watch_;
};

/// Values with tangents of 0.
void make_dual(Dual* to, const TensorView& from);

/// Adds what the weight `id` still has to receive to its gradient and drops its WeightSweep (weight_gradient.cpp).
void finish_weight(Graph& graph, NodeId id);

}  // namespace unroll::detail
