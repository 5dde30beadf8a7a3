#pragma once

// What a network has to beat: forecasts that take a line or two.

#include <examples/forecast/samples.h>

#include <functional>
#include <map>

namespace unroll::examples::forecast {

/// The best m in [2, W] for "as m steps before" (twice m and so on, where that is still to come), by the mean error in
/// the training part; m is at least the horizon where the window allows it.
inline Index find_season(const Samples& samples) {
  Index best = 0;
  double least = std::numeric_limits<double>::infinity();
  for (Index m = std::min(std::max<Index>(2, samples.horizon), samples.window); m <= samples.window; ++m) {
    double sum = 0;
    Index count = 0;
    for (std::size_t c = 0; c < samples.series.columns.size(); ++c)
      for (Index t = m; t < samples.train.end; ++t, ++count)
        sum += std::abs(samples.at(t, c) - samples.at(t - m, c)) / samples.mean_step(c);
    if (sum / static_cast<double>(count) < least) {
      least = sum / static_cast<double>(count);
      best = m;
    }
  }
  return best;
}

/// Forecasts of the test part by a method that says one number for each step, as rows of (h, c). Its band is from its
/// own errors in the validation part: their quantiles for each step ahead, in the units of the series.
template <class Method>
Matrix with_band(const Samples& samples, const Method& method) {
  const Matrix points = method(samples.test);
  const Matrix errors = samples.wanted(samples.validation) - method(samples.validation);
  Matrix forecasts(points.rows(), points.cols() * quantiles);
  for (Index j = 0; j < points.cols(); ++j) {
    const auto units = [&](Samples::Range range) {
      Eigen::ArrayXd all(range.size());
      for (Index row = 0; row < range.size(); ++row)
        all[row] = samples.unit(range.begin + row, static_cast<std::size_t>(j % samples.columns()));
      return all;
    };
    Eigen::ArrayXd sorted = errors.col(j).array() * units(samples.validation);
    std::ranges::sort(sorted);
    for (Index q = 0; q < quantiles; ++q) {
      const double place = levels[static_cast<std::size_t>(q)] * static_cast<double>(sorted.size() - 1);
      const double shift = q == middle ? 0 : sorted[static_cast<Index>(std::lround(place))];
      forecasts.col(j * quantiles + q) = points.col(j).array() + shift / units(samples.test);
    }
  }
  return forecasts;
}

/// Forecasts of the test part by each method: the last value; the last season; and a linear function of the window
/// for each step ahead, by least squares on the training part.
inline std::vector<std::pair<std::string, Matrix>> baselines(const Samples& samples) {
  const Index season = find_season(samples), columns = samples.columns();
  auto naive = [&](Samples::Range range) { return Matrix(Matrix::Zero(range.size(), samples.horizon * columns)); };
  auto seasonal = [&](Samples::Range range) {
    const Matrix known = samples.known(range);
    Matrix points(range.size(), samples.horizon * columns);
    for (Index h = 0; h < samples.horizon; ++h)
      points.middleCols(h * columns, columns) =
          known.middleCols((samples.window - season + h % season) * columns, columns);
    return points;
  };
  auto inputs = [&](Samples::Range range) {
    const Matrix known = samples.known(range);
    Matrix x(known.rows(), known.cols() + 1);
    x << known, Matrix::Ones(known.rows(), 1);
    return x;
  };
  const Matrix weights = inputs(samples.train).completeOrthogonalDecomposition().solve(samples.wanted(samples.train));
  auto linear = [&](Samples::Range range) { return Matrix(inputs(range) * weights); };

  std::vector<std::pair<std::string, Matrix>> all;
  all.emplace_back("naive", with_band(samples, naive));
  all.emplace_back(fmt::format("seasonal ({})", season), with_band(samples, seasonal));
  all.emplace_back("linear", with_band(samples, linear));
  return all;
}

}  // namespace unroll::examples::forecast
