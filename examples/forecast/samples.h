#pragma once

// A series as forecasters see it, what they say of it, and how wrong they are.

#include <autograd/file.h>
#include <autograd/tensor.h>
#include <examples/common/plot.h>
#include <examples/forecast/series.h>

#include <Eigen/Dense>

#include <array>

namespace unroll::examples::forecast {

using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// The quantiles of a forecast: its middle, and a band that is to hold four fifths of what comes.
inline constexpr std::array levels = {0.1, 0.5, 0.9};
inline constexpr Index quantiles = std::ssize(levels), middle = 1;

/// A series of C columns, cut at origins t. What is known are the W values up to t, and what is wanted the H after it.
/// Both are differences from the value at t, in units of the spread of the values known: a trend, or swings that grow
/// with it, then lead nowhere that training has not been (Kim et al. 2022, "Reversible instance normalization").
///
/// The first three fifths of the series are to learn from, the next is to choose by, the last to be judged by: `train`,
/// `validation` and `test` are the origins whose targets lie in each.
class Samples {
 public:
  struct Range {
    Index begin, end;
    Index size() const { return end - begin; }
  };
  Range train, validation, test;

  /// Throws Error when the series is too short, or a column never changes.
  Samples(Series all, Index window, Index horizon) : series(std::move(all)), window(window), horizon(horizon) {
    const Index n = series.length(), learned = n * 3 / 5, chosen = n * 4 / 5;
    if (learned < window + 2 * horizon || chosen - learned < horizon || n - chosen < horizon)
      fail("{} values are too few for --window {} and --horizon {}; at least {} are needed", n, window, horizon,
           std::max((window + 2 * horizon) * 5 / 3 + 1, 5 * horizon + 1));
    train = {window - 1, learned - horizon};
    validation = {learned - 1, chosen - horizon};
    test = {chosen - 1, n - horizon};
    for (std::size_t c = 0; c < series.columns.size(); ++c) {
      double sum = 0;
      for (Index t = 1; t < learned; ++t) sum += std::abs(at(t, c) - at(t - 1, c));
      const double step = sum / static_cast<double>(learned - 1);
      if (!(step > 0) || !std::isfinite(step))
        fail("column \"{}\" has no change that could be learned: the mean step of its first {} values is {}",
             series.names[c], learned, step);
      steps_.push_back(step);
      for (Index t = 0; t < n; ++t) {
        double squares = 0;
        for (Index i = std::max<Index>(0, t - window + 1); i < t; ++i) squares += std::pow(at(i, c) - at(t, c), 2);
        units_.push_back(std::max(std::sqrt(squares / static_cast<double>(window)), step / 10));  // in a calm, not 0
      }
    }
  }

  Index columns() const { return std::ssize(series.columns); }
  double at(Index t, std::size_t c) const { return series.columns[c][static_cast<std::size_t>(t)]; }

  /// What is known at origin t, at i in [0, W), and what is wanted, at h in [0, H).
  double known(Index t, Index i, std::size_t c) const { return (at(t - window + 1 + i, c) - at(t, c)) / unit(t, c); }
  double wanted(Index t, Index h, std::size_t c) const { return (at(t + 1 + h, c) - at(t, c)) / unit(t, c); }
  /// The same for all origins of a range, as rows; columns are (i, c) or (h, c).
  Matrix known(Range range) const {
    return table(range, window, [&](auto... at) { return known(at...); });
  }
  Matrix wanted(Range range) const {
    return table(range, horizon, [&](auto... at) { return wanted(at...); });
  }
  /// From what is forecast to a value of the series.
  double value(Index t, std::size_t c, double forecast) const { return at(t, c) + forecast * unit(t, c); }

  /// Of the first quantile of a step's forecast, in a row of them all.
  Index place(Index h, std::size_t c) const { return (h * columns() + static_cast<Index>(c)) * quantiles; }

  double unit(Index t, std::size_t c) const {
    return units_[c * static_cast<std::size_t>(series.length()) + static_cast<std::size_t>(t)];
  }
  /// The mean of |y_t - y_(t-1)| where there is to learn from.
  double mean_step(std::size_t c) const { return steps_[c]; }

  const Series series;
  const Index window, horizon;

 private:
  template <class F>
  Matrix table(Range range, Index steps, const F& f) const {
    Matrix m(range.size(), steps * columns());
    for (Index row = 0; row < m.rows(); ++row)
      for (Index j = 0; j < m.cols(); ++j)
        m(row, j) = f(range.begin + row, j / columns(), static_cast<std::size_t>(j % columns()));
    return m;
  }

  std::vector<double> steps_, units_;
};

/// The windows that end at some origins, side by side, and what came after each.
struct Batch {
  Tensor x, y;
  Batch(const Samples& samples, const std::vector<Index>& origins)
      : x({samples.window, std::ssize(origins), samples.columns()}),
        y({std::ssize(origins), samples.horizon * samples.columns()}) {
    for (std::size_t n = 0; n < origins.size(); ++n)
      for (std::size_t c = 0; c < samples.series.columns.size(); ++c) {
        const Index row = static_cast<Index>(n), column = static_cast<Index>(c);
        for (Index i = 0; i < samples.window; ++i) x.set({i, row, column}, samples.known(origins[n], i, c));
        for (Index h = 0; h < samples.horizon; ++h)
          y.set({row, h * samples.columns() + column}, samples.wanted(origins[n], h, c));
      }
  }
};

/// The errors of forecasts [origins, (h, c, quantile)] of one column, over all origins and steps.
struct Errors {
  double mase = 0;                     ///< mean absolute scaled error of the middle: 1 is the mean step of the series
  double pinball = 0;                  ///< the mean pinball loss of the quantiles, in the same unit
  double coverage = 0;                 ///< how much of what came was in the band
  std::vector<double> by_origin = {};  ///< the scaled errors of the middle, of which mase is the mean
};
/// Source of the first: Hyndman and Koehler 2006, "Another look at measures of forecast accuracy".
inline Errors errors_of(const Matrix& forecasts, const Samples& samples, Samples::Range range, std::size_t column) {
  Errors errors;
  const double count = static_cast<double>(range.size() * samples.horizon);
  for (Index row = 0; row < range.size(); ++row) {
    const double before = errors.mase;
    for (Index h = 0; h < samples.horizon; ++h) {
      const Index t = range.begin + row;
      const double truth = samples.wanted(t, h, column),
                   weight = samples.unit(t, column) / samples.mean_step(column) / count;
      const double* said = &forecasts(row, samples.place(h, column));
      errors.mase += std::abs(truth - said[middle]) * weight;
      for (std::size_t q = 0; q < levels.size(); ++q) {
        const double pinball = std::max(levels[q] * (truth - said[q]), (levels[q] - 1) * (truth - said[q]));
        errors.pinball += pinball * weight / quantiles;
      }
      errors.coverage += (said[0] <= truth && truth <= said[quantiles - 1]) / count;
    }
    errors.by_origin.push_back((errors.mase - before) * static_cast<double>(range.size()));
  }
  return errors;
}

/// The standard error of the difference of two means. Forecasts from neighbouring origins are about the same steps, so
/// what is counted as independent are the means of blocks of `block` origins. NaN when there is only one.
inline double standard_error(const std::vector<double>& a, const std::vector<double>& b, Index block) {
  const Index blocks = std::ssize(a) / block;
  Eigen::VectorXd means = Eigen::VectorXd::Zero(blocks);
  for (Index i = 0; i < blocks * block; ++i)
    means[i / block] += (a[static_cast<std::size_t>(i)] - b[static_cast<std::size_t>(i)]) / static_cast<double>(block);
  return std::sqrt((means.array() - means.mean()).square().sum() / static_cast<double>(blocks * (blocks - 1)));
}

/// Draws the end of the test part: what came, and what had been said of it at every H-th step.
inline void draw_forecasts(const Matrix& forecasts, const Samples& samples, std::size_t column,
                           const std::filesystem::path& svg) {
  const Index horizon = samples.horizon, last = samples.test.size() - 1;
  std::string table = "step,truth,middle,low,high\n";
  for (Index k = std::min(std::max<Index>(1, 192 / horizon) - 1, last / horizon); k >= 0; --k)
    for (Index h = 0; h < horizon; ++h) {
      const Index row = last - k * horizon, t = samples.test.begin + row;
      table += fmt::format("{},{}", t + 1 + h, samples.at(t + 1 + h, column));
      for (Index q : {middle, Index{0}, quantiles - 1})
        table += fmt::format(",{}", samples.value(t, column, forecasts(row, samples.place(h, column) + q)));
      table += "\n";
    }
  std::filesystem::path csv = svg;
  write_file_atomically(csv.replace_extension(".csv"), table);
  draw({.title = fmt::format("Forecasts of the next {} steps, made at every {}th", horizon, horizon),
        .x_label = "step",
        .y_label = samples.series.names[column],
        .curves = {{2, "what came"}, {3, "forecast"}, {4, "10 % are below"}, {5, "10 % are above"}}},
       csv, svg);
}

}  // namespace unroll::examples::forecast
