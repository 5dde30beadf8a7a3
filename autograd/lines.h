#pragma once

// One pass over a tensor that reduces some neighbouring axes, and one that hands what belongs to a result back to the
// elements it came from. Vectorised wherever the reduced axes are, and cut into tiles by shape alone, so that a result
// is the same on any number of threads. Not for users.

#include <autograd/record.h>

#include <algorithm>
#include <functional>

namespace unroll::detail {

/// A tensor as [outer, middle, inner], of which the middle is reduced: outer x inner lines. Middle and inner elements
/// lie one after another; neighbours along the outer axis are `stride` apart.
struct Lines {
  static constexpr Index width = 128;      ///< the most elements handled at once
  static constexpr Index piece = 1 << 14;  ///< those of a tile, about: worth handing to another thread

  Index outer = 1, middle = 1, inner = 1, stride = 1;

  Index count() const { return outer * inner; }
  /// A tile's columns, and how many of its rows, where columns are few, are handled at once.
  Index columns() const { return std::clamp<Index>(inner, 1, width); }
  Index together() const { return std::clamp<Index>(width / columns(), 1, std::max<Index>(middle, 1)); }
  /// The rows of a tile, and the tiles side by side along the middle and the inner axis.
  Index rows() const { return (piece / columns() + together() - 1) / together() * together(); }
  Index segments() const { return std::max<Index>(1, (middle + rows() - 1) / rows()); }
  Index sides() const { return (inner + columns() - 1) / columns(); }
};

/// The rows `begin` to `end` of the middle axis and some columns of the inner, in one row of the outer.
struct Tile3 {
  Index outer, segment, begin, end, left, columns;
  Index first_line, lanes, together;

  /// Calls f(offset of the elements, their number) for all, at most `Lines::width` at once. The k-th of them belongs to
  /// line `first_line + k % columns`.
  template <class F>
  void for_each_run(const Lines& lines, F&& f) const {
    for (Index row = begin; row < end; row += together)
      f(outer * lines.stride + row * lines.inner + left, std::min(together, end - row) * columns);
  }
};

/// Calls f(tile) for every tile, on several threads when there is much to do.
template <class F>
void for_each_tile(Graph& graph, const Lines& lines, F&& f) {
  const Index columns = lines.columns(), together = lines.together(), rows = lines.rows(), segments = lines.segments(),
              sides = lines.sides(), tiles = lines.outer * segments * sides;
  const Index each = std::max<Index>(1, Lines::piece / std::max<Index>(1, std::min(rows, lines.middle) * columns));
  graph.team().for_each_block((tiles + each - 1) / each, [&](Index block) {
    Index side = block * each % sides, segment = block * each / sides % segments,
          outer = block * each / sides / segments;
    for (Index tile = block * each; tile < std::min(tiles, (block + 1) * each); ++tile) {
      const Index begin = segment * rows, left = side * columns;
      Tile3 t{outer,
              segment,
              begin,
              std::min(lines.middle, begin + rows),
              left,
              std::min(columns, lines.inner - left),
              outer * lines.inner + left,
              0,
              together};
      t.lanes = std::max<Index>(1, std::min(together, t.end - begin)) * t.columns;
      f(t);
      if (++side < sides) continue;
      side = 0;
      if (++segment < segments) continue;
      segment = 0;
      ++outer;
    }
  });
}

/// The same number for every element of a line: `of(line)`, lane by lane of a tile.
template <class S, class Of>
void fill_lanes(const Tile3& tile, S* lanes, Of&& of) {
  for (Index k = 0; k < tile.columns; ++k) lanes[k] = of(tile.first_line + k);
  for (Index k = tile.columns; k < tile.lanes; ++k) lanes[k] = lanes[k - tile.columns];
}

/// Reduces every line, from `start` on, and calls out(line, result).
///
/// `step(sums, x, about, n)` takes n more elements into n sums; `about` holds for each the number that `about_line`
/// gives for its line. `merge(a, b)` is two sums as one.
template <class S, class T, class AboutLine, class Step, class Merge, class Out>
void fold(Graph& graph, const T* x, const Lines& lines, S start, AboutLine about_line, Step step, Merge merge,
          Out out) {
  const Index segments = lines.segments(), count = lines.count();
  auto scratch = graph.scratch();
  S* partial = segments > 1 ? graph.array<S>(static_cast<std::size_t>(segments * count)) : nullptr;
  for_each_tile(graph, lines, [&](const Tile3& tile) {
    S sums[Lines::width], about[Lines::width];
    std::fill_n(sums, tile.lanes, start);
    fill_lanes(tile, about, about_line);
    tile.for_each_run(lines, [&](Index at, Index n) { step(sums, x + at, about, n); });
    for (Index rows = tile.lanes / tile.columns; rows > 1;) {
      const Index half = (rows + 1) / 2, n = (rows - half) * tile.columns, distance = half * tile.columns;
      for (Index k = 0; k < n; ++k) sums[k] = merge(sums[k], sums[k + distance]);
      rows = half;
    }
    for (Index k = 0; k < tile.columns; ++k) {
      if (partial == nullptr)
        out(tile.first_line + k, sums[k]);
      else
        partial[tile.segment * count + tile.first_line + k] = sums[k];
    }
  });
  if (partial == nullptr) return;
  for (Index line = 0; line < count; ++line) {
    S sum = partial[line];
    for (Index segment = 1; segment < segments; ++segment) sum = merge(sum, partial[segment * count + line]);
    out(line, sum);
  }
}

/// Calls out(line, the sum of term(x, about_line(line)) over the line's x), added up in Wide<T>.
template <class T, class AboutLine, class Term, class Out>
void fold_sum(Graph& graph, const T* x, const Lines& lines, AboutLine about_line, Term term, Out out) {
  using S = Wide<T>;
  fold(
      graph, x, lines, S(0), about_line,
      [=](S* sums, const T* from, const S* about, Index n) {
        for (Index k = 0; k < n; ++k) sums[k] += term(S(from[k]), about[k]);
      },
      std::plus<S>(), out);
}

/// dx (+)= a contribution to every element of the input. `of_line(line)` gives some Wide<T>, in a std::array, that
/// belong to all elements of a line; `contribution(c, x, p, n)` computes n contributions from n elements and p[0][k],
/// p[1][k] ...: those numbers of the k-th.
template <class T, class OfLine, class Contribution>
void spread(Derivative<T>& d, const Lines& lines, OfLine of_line, Contribution contribution) {
  using S = Wide<T>;
  constexpr std::size_t K = std::tuple_size_v<decltype(of_line(Index{0}))>;
  const T* x = d.x(0).data();
  const GradTarget target = d.graph().target(d.input(0));
  T* dx = reinterpret_cast<T*>(target.data);
  for_each_tile(d.graph(), lines, [&](const Tile3& tile) {
    S p[K][Lines::width];
    for (std::size_t i = 0; i < K; ++i) fill_lanes(tile, p[i], [&](Index line) { return of_line(line)[i]; });
    T c[Lines::width];
    tile.for_each_run(lines, [&](Index at, Index n) {
      contribution(c, x + at, p, n);
      T* to = dx + at;
      if (target.fresh)
        for (Index k = 0; k < n; ++k) to[k] = c[k];
      else
        for (Index k = 0; k < n; ++k) to[k] += c[k];
    });
  });
}

}  // namespace unroll::detail
